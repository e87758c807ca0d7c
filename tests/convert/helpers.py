"""What several tests of conversion do with files."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from localllm.convert import corpus
from localllm.convert.checkpoint import Checkpoint
from localllm.convert.files import Files, Range
from localllm.convert.origin import Origin

MakeTiny = Callable[..., Path]

NEED_IMATRIX = ("Q2_K_S", "IQ1_M", "IQ1_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_XS", "IQ3_XXS")
"""Types that llama.cpp does not make of a model without an importance matrix."""


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    found = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}), encoding="utf-8")


def train_byte_level(splits: Sequence[str], *, ignore_merges: bool = False, vocab: int = 2000) -> dict[str, Any]:
    """A tokenizer.json that splits by these expressions and has learned the words of the built-in texts."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    pieces = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in splits]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*pieces, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(corpus.TEXTS) * 3, trainer)
    parsed: dict[str, Any] = json.loads(tokenizer.to_str())
    return parsed


SPACE_MARK = "\u2581"
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK}


def train_sentencepiece(style: str, vocab: int = 1500) -> dict[str, Any]:
    """A tokenizer.json as transformers makes it of a SentencePiece model: BPE with byte fallback.

    `style` says how spaces are marked: `legacy` and `bare` by a normalizer, else the scheme of a Metaspace step.
    """
    byte_tokens = [f"<0x{number:02X}>" for number in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=["<unk>", "<s>", "</s>", *byte_tokens], show_progress=False
    )
    text = " ".join(corpus.TEXTS).replace("\n", " ").replace("\0", "")
    tokenizer.train_from_iterator([SPACE_MARK + word for word in text.split(" ") if word] * 3, trainer)
    parsed: dict[str, Any] = json.loads(tokenizer.to_str())
    parsed["added_tokens"] = [token for token in parsed["added_tokens"] if token["id"] < 3]
    if style == "legacy":
        steps = [{"type": "Prepend", "prepend": SPACE_MARK}, _REPLACE]
        parsed["normalizer"] = {"type": "Sequence", "normalizers": steps}
    elif style == "bare":
        parsed["normalizer"] = _REPLACE
    else:
        step = {"type": "Metaspace", "replacement": SPACE_MARK, "prepend_scheme": style, "split": False}
        parsed["pre_tokenizer"] = step
    parsed["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ],
    }
    parsed["post_processor"] = template_processor("<s>", 1)
    return parsed


def template_processor(bos: str, number: int) -> dict[str, Any]:
    """A post-processor that puts one token before a text."""
    start, text, other = {"SpecialToken": {"id": bos, "type_id": 0}}, _sequence("A", 0), _sequence("B", 1)
    return {
        "type": "TemplateProcessing",
        "single": [start, text],
        "pair": [start, text, start, other],
        "special_tokens": {bos: {"id": bos, "ids": [number], "tokens": [bos]}},
    }


def _sequence(name: str, type_id: int) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": type_id}}


class MemoryFiles(Files):
    """The small files of a checkpoint, in memory."""

    def __init__(self, **files: Any) -> None:
        self.contents = {
            name: (value if isinstance(value, str) else json.dumps(value)).encode() for name, value in files.items()
        }

    @property
    def title(self) -> str:
        return "memory"

    @property
    def origin(self) -> Origin:
        return Origin("memory")

    def sha256(self, name: str) -> str | None:
        return None

    def names(self) -> list[str]:
        return list(self.contents)

    def size(self, name: str) -> int:
        return len(self.contents[name])

    def read_into(self, name: str, offset: int, target: memoryview) -> int:
        part = self.contents[name][offset : offset + len(target)]
        target[: len(part)] = part
        return len(part)

    def version(self, name: str) -> str:
        return self.contents[name].hex()

    def close(self) -> None:
        pass

    def expect(self, ranges: Sequence[Range]) -> None:
        pass

    def stop(self) -> None:
        pass


def slow_files(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The vocab.json and merges.txt of a byte-level tokenizer.json, as GPT-2 has them."""
    merges = "".join(" ".join(pair) + "\n" for pair in tokenizer["model"]["merges"])
    return {"vocab.json": tokenizer["model"]["vocab"], "merges.txt": f"#version: 0.2\n{merges}"}


def tokenizer_files(tokenizer: dict[str, Any] | None, **others: Any) -> Checkpoint:
    """A checkpoint that has a tokenizer and hardly anything else. A file's name is written `name__json=`.

    Without `tokenizer` there is no tokenizer.json.
    """
    weights = struct.pack("<Q", 2) + b"{}"
    own = {} if tokenizer is None else {"tokenizer.json": tokenizer}
    files = MemoryFiles(**{"config.json": {"bos_token_id": 1, "eos_token_id": 2}, **own})
    files.contents["model.safetensors"] = weights
    for name, value in others.items():
        text = value if isinstance(value, str) else json.dumps(value)
        files.contents[name.replace("__", ".")] = text.encode()
    return Checkpoint(files)
