"""What quantization lost: numbers read back from their quantized bytes, against the numbers of the source.

Looks at a part of every slab while it is in memory, and remembers the checksums of that part, so that the finished file
can be asked whether it holds these very bytes. Knows numbers and types, not where they come from.
"""

from __future__ import annotations

import math
import re
import threading
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.convert.slabs import Slab
from localllm.convert.tensor import BLOCKS
from localllm.errors import BadModelFile
from localllm.gguf_file import TensorInfo
from localllm.native import quants

Numbers = npt.NDArray[np.float64]

SAMPLE = 64
"""While converting, one number of so many is looked at…"""

LEAST = 4096
"""…but so many of a slab at least, or all that it has."""

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Loss:
    """What became of some numbers. Sums over blocks of the type, or over single numbers of a type without blocks.

    `squares` is the sum of the squares of `numbers` numbers, `errors` that of their differences, `worst` the largest
    mean square of the differences in a block.
    """

    numbers: int
    squares: float
    errors: float
    worst: float

    @property
    def rmse(self) -> float:
        """The root mean square of the differences, in units of that of the numbers."""
        return _ratio(self.errors, self.squares)

    @property
    def worst_block(self) -> float:
        """The same of the block that lost most, in units of the root mean square of all numbers."""
        return _ratio(self.worst * self.numbers, self.squares)


def _ratio(errors: float, squares: float) -> float:
    if errors == 0:
        return 0.0
    return math.sqrt(errors / squares) if squares else math.inf


def total(losses: Iterable[Loss]) -> Loss:
    """All of them together. Does not depend on their order."""
    parts = list(losses)
    return Loss(
        sum(part.numbers for part in parts),
        math.fsum(part.squares for part in parts),
        math.fsum(part.errors for part in parts),
        max((part.worst for part in parts), default=0.0),
    )


def block_errors(before: Numbers, after: Numbers, block: int) -> Numbers:
    """The sum of the squares of the differences in each block of `block` numbers."""
    with np.errstate(over="ignore"):
        found: Numbers = np.square(before - after).reshape(-1, block).sum(axis=1)
        return found


def loss(before: Numbers, errors: Numbers, block: int) -> Loss:
    """What became of the numbers `before`, with the `errors` of each block of `block`."""
    with np.errstate(over="ignore"):
        return Loss(before.size, float(np.square(before).sum()), float(errors.sum()), float(errors.max()) / block)


def numbers(type_name: str, data: npt.NDArray[Any], first: int, count: int) -> Numbers:
    """`count` numbers of a tensor's contiguous bytes, from the number `first` on; both fill whole blocks."""
    block = block_of(type_name)
    size = quants.row_bytes(type_name, block)
    part = data.reshape(-1).view(np.uint8)[first // block * size : (first + count) // block * size]
    if type_name == "F32":
        return part.view(np.float32).astype(np.float64)
    widened = np.empty(count, dtype=np.float32)
    quants.to_float32(type_name, part, widened, count)
    return widened.astype(np.float64)


def block_of(*type_names: str) -> int:
    """Numbers that fill whole blocks of all these types, which are powers of two."""
    return max(BLOCKS.get(name, (1, 1))[0] for name in type_names)


def window(slab: Slab, block: int) -> tuple[int, int]:
    """The first number of a slab to look at and how many: a piece whose place moves from slab to slab."""
    count = min(slab.count, -(-max(slab.count // SAMPLE, LEAST) // block) * block)
    place = (slab.start + 1) * _GOLDEN % 1
    return int(place * (slab.count - count)) // block * block, count


@dataclass(frozen=True)
class Look:
    """What was seen of a slab: `loss` is None where the bytes are the source's own; the rest is where in the tensor."""

    loss: Loss | None
    start: int
    length: int
    checksum: int


@dataclass(frozen=True)
class TensorLoss:
    """What a tensor lost. `looked_at` of its `count` numbers were compared; `copied` are the source's own bytes."""

    name: str
    type: str
    count: int
    looked_at: int
    copied: bool
    loss: Loss

    @property
    def whole(self) -> Loss:
        """The loss of all numbers, as the part that was looked at lets expect it: tensors then count by their size."""
        if self.loss.numbers == 0:
            return self.loss
        scale = self.count / self.loss.numbers
        return Loss(self.count, self.loss.squares * scale, self.loss.errors * scale, self.loss.worst)


@dataclass(frozen=True)
class RoleLoss:
    """What the tensors of one role lost together, over all layers."""

    role: str
    types: Mapping[str, int]
    count: int
    looked_at: int
    rmse: float
    worst_tensor: str
    worst_tensor_rmse: float
    worst_block: float

    @property
    def tensors(self) -> int:
        """How many there are."""
        return sum(self.types.values())


class Meter:
    """Looks at slabs from any thread, and adds up what it saw."""

    def __init__(self) -> None:
        self._looks: dict[str, list[Look]] = defaultdict(list)
        self._types: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()

    def look(self, slab: Slab, rows: npt.NDArray[Any], data: npt.NDArray[Any]) -> Look:
        """Compare a part of `rows`, the numbers of the source, with that part of `data`, their bytes in the file."""
        source, kind = slab.tensor.dtype, slab.entry.type_name
        block = block_of(source, kind)
        first, count = window(slab, block)
        found = None
        if data is not rows:
            own = block_of(kind)
            before = numbers(source, rows, first, count)
            found = loss(before, block_errors(before, numbers(kind, data, first, count), own), own)
        start = quants.row_bytes(kind, first)
        length = quants.row_bytes(kind, count)
        checksum = zlib.crc32(data.reshape(-1).view(np.uint8)[start : start + length].data)
        seen = Look(found, slab.offset - slab.entry.offset + start, length, checksum)
        self.remember(slab, seen)
        return seen

    def remember(self, slab: Slab, seen: Look) -> None:
        """Count what was seen of a slab, now or by an earlier process."""
        with self._lock:
            self._looks[slab.tensor.name].append(seen)
            self._types[slab.tensor.name] = slab.entry.type_name, slab.tensor.rows * slab.tensor.columns

    def check(self, files: Sequence[tuple[Path, Sequence[TensorInfo]]]) -> int:
        """Ask the files, by what their headers say, for the bytes that were seen; returns how many were read.

        Raises:
            BadModelFile: other bytes are there.
        """
        read = 0
        for path, infos in files:
            with path.open("rb") as file:
                for info in infos:
                    for seen in sorted(self._looks[info.name], key=lambda look: look.start):
                        file.seek(info.offset + seen.start)
                        if zlib.crc32(file.read(seen.length)) != seen.checksum:
                            raise BadModelFile(f"{path}: {info.name} is not what was written; the disk may be failing.")
                        read += seen.length
        return read

    def tensors(self) -> list[TensorLoss]:
        """What each tensor lost, by name."""
        found = []
        for name, looks in sorted(self._looks.items()):
            kind, count = self._types[name]
            losses = [look.loss for look in looks if look.loss is not None]
            copied = not losses
            part = total(losses)
            found.append(TensorLoss(name, kind, count, count if copied else part.numbers, copied, part))
        return found


def role(name: str) -> str:
    """What a tensor does, whatever its layer: `attn_q`, `ffn_down_exps`, `attn_q.bias`."""
    return re.sub(r"^blk\.\d+\.", "", name).removesuffix(".weight")


def by_role(tensors: Iterable[TensorLoss]) -> list[RoleLoss]:
    """The same by role, in the order in which roles first appear."""
    groups: dict[str, list[TensorLoss]] = defaultdict(list)
    for tensor in tensors:
        groups[role(tensor.name)].append(tensor)
    return [_role_loss(name, group) for name, group in groups.items()]


def _role_loss(name: str, group: Sequence[TensorLoss]) -> RoleLoss:
    worst = max(group, key=lambda tensor: tensor.loss.rmse)
    return RoleLoss(
        role=name,
        types=dict(Counter(tensor.type for tensor in group).most_common()),
        count=sum(tensor.count for tensor in group),
        looked_at=sum(tensor.looked_at for tensor in group),
        rmse=total(tensor.whole for tensor in group).rmse,
        worst_tensor=worst.name,
        worst_tensor_rmse=worst.loss.rmse,
        worst_block=max(tensor.loss.worst_block for tensor in group),
    )
