"""SentencePiece models for tests: the small trained ones, and files written field by field."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from localllm.convert import corpus
from localllm.convert.checkpoint import Checkpoint
from tests.convert.golden import Golden, goldens, write_checkpoint
from tests.convert.helpers import edit_json, tokenizer_files

FOLDER = Path(__file__).with_name("pieces")
TEXTS = (*corpus.TEXTS, *corpus.BROKEN)
"""Those whose ids are kept, in this order."""

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

BASE = (("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL))
BYTES = tuple((f"<0x{number:02X}>", 0.0, BYTE) for number in range(256))
WORDS = (
    *(("ab", -1.0, NORMAL), ("\u2581ab", -2.0, NORMAL), ("abab", -3.0, NORMAL)),
    *((text, -4.0 - number, NORMAL) for number, text in enumerate("\u2581abcdé")),
)


@cache
def _ids() -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = json.loads((FOLDER / "ids.json").read_text("utf-8"))
    return found


def own_ids(name: str) -> list[list[int]]:
    """What SentencePiece makes of each of TEXTS."""
    return _ids()[name]


def trained(name: str) -> bytes:
    """The file of a model that `tools/make_piece_models.py` trained."""
    return (FOLDER / f"{name}.model").read_bytes()


def varint(number: int) -> bytes:
    """A number as protocol buffers write it; a negative one takes ten bytes."""
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def field(number: int, value: int | float | str | bytes) -> bytes:
    """One field of a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def piece_model(
    pieces: Sequence[tuple[str, float, int]] = (*BASE, *BYTES, *WORDS),
    trainer: Mapping[int, int] | None = None,
    normalizer: Mapping[int, int | bytes] | None = None,
) -> bytes:
    """The file of a model: a BPE with byte fallback that leaves spaces as they are. The others by numbers of fields."""
    rows = [field(1, field(1, text) + field(2, score) + field(3, kind)) for text, score, kind in pieces]
    trained_with = b"".join(field(*entry) for entry in {3: 2, 35: 1, 43: -1, **(trainer or {})}.items())
    prepares = b"".join(field(*entry) for entry in {4: 0, **(normalizer or {})}.items())
    return b"".join([*rows, field(2, trained_with), field(3, prepares)])


def piece_files(model: bytes, tokenizer_class: str = "LlamaTokenizer", **others: Any) -> Checkpoint:
    """A checkpoint whose tokenizer is in tokenizer.model; `others` are files, and settings by their own names."""
    files = {name: others.pop(name) for name in list(others) if "__" in name}
    settings = {"tokenizer_class": tokenizer_class, **others}
    checkpoint = tokenizer_files(None, tokenizer_config__json=settings, **{"config__json": {}, **files})
    checkpoint.files.contents["tokenizer.model"] = model  # type: ignore[attr-defined]
    checkpoint.names.append("tokenizer.model")
    return checkpoint


def older_checkpoint(name: str, folder: Path) -> Path:
    """The checkpoint of a golden in the older dialect, whose only tokenizer is a SentencePiece model."""
    file, rows = {"xlm-roberta": ("sentencepiece.bpe.model", 502)}.get(name, ("tokenizer.model", 900))
    golden = next(golden for golden in goldens() if golden.name == name)
    shapes = golden.case["tensors"].items()
    tensors = {tensor: [rows, *shape[1:]] if shape[0] == 320 else shape for tensor, shape in shapes}
    config = {**golden.config, "vocab_size": rows}
    larger = Golden(name, {**golden.case, "tensors": tensors, "config": config})
    write_checkpoint(larger, folder, larger.old_config)
    (folder / "tokenizer.json").unlink()
    (folder / file).write_bytes(trained(name))
    edit_json(folder / "tokenizer_config.json", tokenizer_class=None, bos_token=None, eos_token=None)
    return folder
