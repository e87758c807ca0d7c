"""Keys of metadata that a person sets: `--metadata KEY=VALUE`.

Knows which keys describe the bytes of the file or the vocabulary that was proven, and must stay what they are.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

from localllm.convert.header import Keys, KeyValue, f32, flag, i32, text, u32
from localllm.errors import UnsupportedModel

_UINTS, _INTS, _FLOATS, _BOOL, _STRING, _ARRAY = (0, 2, 4, 10), (1, 3, 5, 11), (6, 12), 7, 8, 9

_KEPT = re.compile(
    r"general\.(architecture|alignment|quantization_version|file_type)|split\..*|localllm\..*|quantize\..*|[^.]+\.block_count"
    r"|tokenizer\.ggml\.(?!(eos|eot|eom|eog|padding|fim_\w+)_token_id$).*"
)


def with_metadata(keys: Keys, changes: Sequence[tuple[str, str]]) -> Keys:
    """`keys` with the values that a person gave, in the order of llama.cpp's quantizer: changed ones go last.

    A key that is there keeps its type. A new one is a text, or what `int:`, `float:`, `bool:` or `str:` before the
    value says, as in llama-quantize.

    Raises:
        UnsupportedModel: the key must stay as it is, or the value is not of the key's type.
    """
    changed = dict(keys)
    for key, value in changes:
        if _KEPT.fullmatch(key) or (key in changed and changed[key].kind == _ARRAY):
            raise UnsupportedModel(
                f"The key {key} cannot be set: it follows from the checkpoint and the other options.",
                hint="--metadata is for names, descriptions, sampling, the chat template and numbers such as "
                "ARCH.context_length.",
            )
        before = changed.pop(key, None)
        changed[key] = _parsed(key, value, before)
    return changed


def _parsed(key: str, value: str, before: KeyValue | None) -> KeyValue:
    prefix, sign, rest = value.partition(":")
    named = prefix if sign and prefix in ("int", "float", "bool", "str") else ""
    rest = rest if named else value
    try:
        if before is not None:
            found = KeyValue(before.kind, _converted(before.kind, rest))
        elif named == "int":
            found = u32(int(rest)) if int(rest) >= 0 else i32(int(rest))
        elif named == "float":
            found = f32(float(rest))
        else:
            found = flag(_truth(rest)) if named == "bool" else text(rest)
        found.packed()
    except (ValueError, struct.error, OverflowError) as error:
        raise UnsupportedModel(f"--metadata {key}={value}: the value is not of the key's type ({error}).") from error
    return found


def _converted(kind: int, value: str) -> int | float | bool | str:
    if kind in _UINTS or kind in _INTS:
        return int(value)
    if kind in _FLOATS:
        return float(value)
    return _truth(value) if kind == _BOOL else value


def _truth(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ValueError(f"{value!r} is neither true nor false")
    return value.lower() == "true"
