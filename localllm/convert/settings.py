"""What a person asks of a conversion, apart from where it comes from and where it goes.

Every option is a field with a safe default. Knows no reason behind any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from localllm.convert.quantizations import parse_type


@dataclass(frozen=True)
class Settings:
    """The options of a conversion.

    Attributes:
        type: the quantization type, in any case.
        imatrix: the file of an importance matrix, as `llama-imatrix` of llama.cpp writes it.
    """

    type: str = "Q4_K_M"
    imatrix: Path | None = None


def settled(type: str | None, settings: Settings | None) -> Settings:
    """`settings` or the defaults, with `type` before its own when it is given, and the type by its proper name.

    Raises:
        UnsupportedModel: there is no such type.
    """
    settings = settings or Settings()
    return replace(settings, type=parse_type(type or settings.type))
