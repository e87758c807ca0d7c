"""What was found of the weights of a tensor, and which of it is more than a quantizer explains. Computes no weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from localllm.convert.proof.roundtrip import Loss, TensorLoss, total
from localllm.convert.quantizations import FLOAT_TYPES, TENSOR_TYPES

_BY_COLUMNS = tuple(kind for kind in TENSOR_TYPES if kind not in (*FLOAT_TYPES, "Q8_0"))
_HALF_RMSE = 2.0**-9 / math.sqrt(3)
"""What rounding to BF16 loses: less than that is nobody's mistake."""

_COARSE_RMSE = 0.25
"""More than any type of four bits loses: the limit for one that nothing here makes, such as NVFP4."""

_DAMAGED_ROWS = 16


@dataclass(frozen=True)
class TensorCheck:
    """What was found of a tensor.

    `remade` is whether bytes of it could be made again; then `different` of its `rows` are not what was made, the row
    `first` before the others, and lost `excess` times what those made lose. `expected` is what its type loses of parts
    of it, for one that could not be made again. `ruined` of its rows have a block that nothing explains, the row
    `first_ruined` before the others. `source_type` is that of a source that is quantized itself, and then what both
    lose is expected; it is `coarser` where it lost more than the file.
    """

    found: TensorLoss
    rows: int
    remade: bool
    different: int = 0
    first: int | None = None
    excess: float = 1.0
    expected: float | None = None
    ruined: int = 0
    first_ruined: int | None = None
    source_type: str | None = None
    coarser: bool = False

    @property
    def identical(self) -> bool:
        """Whether every byte is what the source gives."""
        return self.remade and self.different == 0

    @property
    def too_far(self) -> bool:
        """Whether it is further from the source than their types explain."""
        slack = 1.6 if (self.source_type if self.coarser else self.found.type) in _BY_COLUMNS else 1.25
        limit = _COARSE_RMSE if self.expected is None else slack * max(self.expected, _HALF_RMSE)
        return not self.remade and not self.found.loss.rmse <= limit


def is_damage(checks: Sequence[TensorCheck], check: TensorCheck) -> bool:
    """Whether rows of a tensor that are not what was made again are damaged.

    Another kind of processor may round a sum differently, which changes rows here and there in every tensor, and for
    the better as often as not. A few rows in a whole model, or rows that lost clearly more, are something else.
    """
    rows = sum(other.rows for other in checks if other.remade)
    return sum(other.different for other in checks) <= max(_DAMAGED_ROWS, rows // 1000) or check.excess > 1.1


@dataclass(frozen=True)
class Found:
    """What was found of a slab, or of all slabs of a tensor so far.

    `loss` is None where the bytes are the source's own. Where they could not be made again, `usual` is what the type of
    the file loses, and `usual_of_source` what that of a source that is quantized itself has lost. `errors` are those of
    the rows that are `different`, `remade_errors` those of what was made instead.
    """

    loss: Loss | None = None
    usual: Loss | None = None
    usual_of_source: Loss | None = None
    different: int = 0
    first: int | None = None
    ruined: int = 0
    first_ruined: int | None = None
    errors: float = 0.0
    remade_errors: float = 0.0

    @property
    def source_is_coarser(self) -> bool:
        """Whether the source has lost more than the file."""
        source, own = self.usual_of_source, self.usual
        return source is not None and own is not None and source.rmse > own.rmse

    @property
    def expected(self) -> float | None:
        """How far the file and the source are apart when both were made of the same numbers."""
        if self.usual is None:
            return None
        return math.hypot(self.usual.rmse, self.usual_of_source.rmse if self.usual_of_source else 0.0)

    def and_then(self, later: Found) -> Found:
        """Together with what was found further on in the tensor."""
        return Found(
            _together(self.loss, later.loss),
            _together(self.usual, later.usual),
            _together(self.usual_of_source, later.usual_of_source),
            self.different + later.different,
            self.first if self.first is not None else later.first,
            self.ruined + later.ruined,
            self.first_ruined if self.first_ruined is not None else later.first_ruined,
            self.errors + later.errors,
            self.remade_errors + later.remade_errors,
        )


def _together(one: Loss | None, other: Loss | None) -> Loss | None:
    return total((one, other)) if one is not None and other is not None else one or other
