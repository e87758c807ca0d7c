"""Everything that the header of a model tells, in the words of people and for programs. Reads no weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from localllm.gguf_file import Array, Header, TensorInfo, read_parts
from localllm.library.naming import entry_of
from localllm.library.shelf import placed
from localllm.library.stored import Stored

_LONG = 64
"""Arrays of more are told by their length: vocabularies have hundreds of thousands."""

_SPECIAL = re.compile(r"tokenizer\.ggml\.(\w+)_token_id")
_BASE = re.compile(r"general\.base_model\.(\d+)\.name")


@dataclass(frozen=True)
class Details:
    """A model and its headers, one for each file. `name` stands for it; the rest follows from the headers."""

    name: str
    model: Stored
    headers: tuple[Header, ...]

    @property
    def header(self) -> Header:
        """That of the first file, which has all keys."""
        return self.headers[0]

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """The tensors of all files."""
        return tuple(tensor for header in self.headers for tensor in header.tensors)

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(header.parameters for header in self.headers)

    @property
    def quantization(self) -> str:
        """The type that the file names, else that of most weights."""
        return (
            self.header.quantization if self.header.tensors else max(self.types, key=lambda kind: self.types[kind][1])
        )

    @property
    def types(self) -> dict[str, tuple[int, int]]:
        """For each type of tensor: how many there are, and their bytes; the most bytes first."""
        found: dict[str, tuple[int, int]] = {}
        for tensor in self.tensors:
            count, size = found.get(tensor.type_name, (0, 0))
            found[tensor.type_name] = count + 1, size + tensor.n_bytes
        return dict(sorted(found.items(), key=lambda item: -item[1][1]))

    @property
    def template(self) -> str:
        """The chat template; empty where there is none."""
        return self.text("tokenizer.chat_template")

    @property
    def special_tokens(self) -> dict[str, tuple[int, str]]:
        """The number and text of each special token by what it is for: `bos`, `eos`, `eot`…"""
        tokens = self.header.get("tokenizer.ggml.tokens")
        found = {}
        for key, value in self.header.metadata.items():
            kind = _SPECIAL.fullmatch(key)
            if kind and isinstance(value, int):
                known = isinstance(tokens, Array) and 0 <= value < len(tokens)
                found[kind[1]] = value, str(tokens[value]) if known and isinstance(tokens, Array) else ""
        return found

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        tokens = self.header.get("tokenizer.ggml.tokens")
        return len(tokens) if isinstance(tokens, Array) else self.header.integer("{arch}.vocab_size")

    @property
    def licence(self) -> str:
        """The licence as the header states it, else as the catalogue does; empty where neither knows."""
        entry, _ = entry_of(self.model)
        named = [self.text(f"general.license{end}") for end in ("", ".name", ".link")]
        return ", ".join(part for part in dict.fromkeys(named) if part) or (entry.licence if entry else "")

    @property
    def origins(self) -> list[str]:
        """What it was made of and who made it, as far as the header tells."""
        found = []
        source = self.text("localllm.source.repository") or self.text("localllm.source.name")
        if source:
            revision = self.text("localllm.source.revision")
            found.append(f"{source}@{revision}" if revision else source)
        for key in ("general.source.repo_url", "general.source.url", "general.repo_url", "general.url"):
            found.append(self.text(key))
        for key in self.header.metadata:
            base = _BASE.fullmatch(key)
            if base:
                maker = self.text(f"general.base_model.{base[1]}.organization")
                found.append(f"{maker} {self.text(key)}".strip())
        for key, what in (("organization", "by"), ("author", "by"), ("quantized_by", "quantized by")):
            told = self.text(f"general.{key}")
            found.append(f"{what} {told}" if told else "")
        matrix = self.text("quantize.imatrix.file")
        found.append(f"with the importance matrix {matrix}" if matrix else "")
        return [text for text in dict.fromkeys(found) if text]

    def text(self, key: str) -> str:
        """A key that holds text; empty where it does not."""
        value = self.header.get(key)
        return value.strip() if isinstance(value, str) else ""

    def number(self, key: str) -> str:
        """A key that holds a number, or several of which the smallest and the largest are told; empty without it."""
        value = self.header.get(key)
        if isinstance(value, Array):
            numbers = sorted({item for item in value if isinstance(item, (int, float))})
            return f"{numbers[0]:,} to {numbers[-1]:,}" if len(numbers) > 1 else f"{numbers[0]:,}" if numbers else ""
        return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""

    def metadata(self) -> dict[str, Any]:
        """Every key for programs: a long array as `{"length": N}`, the numbers that JSON has not as text."""
        return {key: _plain(value) for key, value in self.header.metadata.items()}


def details(name: str | None = None) -> Details:
    """Read the headers of the model that `name` stands for.

    Raises:
        ModelNotFound: as `shelf.find`, or a part is missing.
        BadModelFile: a file is no GGUF, or damaged; says where.
    """
    label, model = placed(name)
    return Details(label, model, read_parts(model.path))


def tensor_rows(tensors: Sequence[TensorInfo]) -> list[dict[str, Any]]:
    """The tensors for programs: shapes in GGUF's order, the length of a row first."""
    return [
        {"name": tensor.name, "shape": list(tensor.shape), "type": tensor.type_name, "bytes": tensor.n_bytes}
        for tensor in tensors
    ]


def _plain(value: object) -> Any:
    if isinstance(value, Array):
        return [_plain(item) for item in value] if len(value) <= _LONG else {"length": len(value)}
    if isinstance(value, float) and value - value != 0:  # infinite, or not a number
        return str(value)
    return value
