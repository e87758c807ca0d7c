"""Which files of a checkpoint hold its weights, and the tensors in them: one or shards, safetensors or torch's own.

Reads headers, never weights. Where both kinds are there, safetensors are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from localllm.convert.files import Files
from localllm.convert.safetensors import read_safetensors_header
from localllm.convert.tensor import SourceTensor
from localllm.convert.torch_files import read_torch_header
from localllm.errors import BadCheckpoint

ReadJson = Callable[[str], Any]
"""The content of a JSON file, or None when it is not there."""


@dataclass(frozen=True)
class Kind:
    """How weights are stored: `stem.ending`, or `stem-00001-of-00002.ending` and so on with an index."""

    stem: str
    ending: str
    read: Callable[[Files, str], list[SourceTensor]]

    @property
    def single(self) -> str:
        """The file that holds everything."""
        return f"{self.stem}.{self.ending}"

    @property
    def index(self) -> str:
        """The file that says which shard holds which tensor."""
        return f"{self.single}.index.json"

    def shard(self, number: int, count: int) -> str:
        """The name of a shard."""
        return f"{self.stem}-{number:05}-of-{count:05}.{self.ending}"

    def counts(self, names: Iterable[str]) -> list[int]:
        """How many shards there are by the name of each that is there."""
        pattern = re.compile(rf"{self.stem}-\d{{5}}-of-(\d{{5}})\.{self.ending}")
        return [int(match.group(1)) for match in map(pattern.fullmatch, names) if match]

    def holds(self, name: str) -> bool:
        """Whether a file of this name is one of the weights."""
        return name == self.single or bool(self.counts([name]))

    def is_in(self, names: list[str]) -> bool:
        """Whether any of it is there."""
        return self.single in names or self.index in names or bool(self.counts(names))


KINDS = (
    Kind("model", "safetensors", read_safetensors_header),
    Kind("pytorch_model", "bin", read_torch_header),
)
"""What is looked for, in this order."""


def read_weights(files: Files, read_json: ReadJson) -> dict[str, SourceTensor]:
    """All tensors, in the order of the files and of their headers.

    Raises:
        BadCheckpoint: there are none, a shard is missing, cut short or damaged, or headers contradict each other.
        UnsupportedModel: a tensor of a type that is not converted.
    """
    names, title = files.names(), files.title
    kind = next((kind for kind in KINDS if kind.is_in(names)), None)
    if kind is None:
        wanted = " and no ".join(kind.single for kind in KINDS)
        raise BadCheckpoint(f"{title} holds no weights: no {wanted}.", hint=_hint(names))
    weight_map = _weight_map(kind, title, names, read_json)
    tensors: dict[str, SourceTensor] = {}
    for file in _files(kind, title, names, weight_map):
        for tensor in kind.read(files, file):
            if tensor.name in tensors:
                raise BadCheckpoint(f"{title}: {tensor.name} is in {tensors[tensor.name].file} and in {file}.")
            tensors[tensor.name] = tensor
    for name, file in weight_map.items():
        if name not in tensors:
            raise BadCheckpoint(f"{title}: {kind.index} puts {name} in {file}, but it is not there.")
    unlisted = [name for name in tensors if weight_map and name not in weight_map]
    if unlisted:
        file = tensors[unlisted[0]].file
        raise BadCheckpoint(f"{title}: {file} holds {unlisted[0]}, which {kind.index} does not list.")
    return tensors


def _weight_map(kind: Kind, title: str, names: list[str], read_json: ReadJson) -> dict[str, str]:
    """The shard of each tensor by the index; empty when there is none or a single file makes it moot."""
    index = None if kind.single in names else read_json(kind.index)
    if index is None:
        return {}
    found = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(found, dict) or not all(isinstance(file, str) for file in found.values()):
        raise BadCheckpoint(f"{title}: {kind.index} has no weight_map.")
    return found


def _files(kind: Kind, title: str, names: list[str], weight_map: dict[str, str]) -> list[str]:
    """The files to read, all there."""
    if kind.single in names:
        return [kind.single]
    if weight_map:
        wanted = sorted(set(weight_map.values()))
        missing = [file for file in wanted if file not in names]
        if missing:
            lost = sum(file == missing[0] for file in weight_map.values())
            raise BadCheckpoint(
                f"{title}: shard {missing[0]} is missing; {kind.index} puts {lost} tensors in it"
                + (f" ({len(missing)} of {len(wanted)} shards are missing)." if len(missing) > 1 else "."),
                hint="Download the missing files; nothing was written.",
            )
        return wanted
    count = max(kind.counts(names), default=0)
    for number in range(1, count + 1):
        if kind.shard(number, count) not in names:
            raise BadCheckpoint(
                f"{title}: shard {kind.shard(number, count)} is missing.", hint="Download the missing files."
            )
    return [kind.shard(number, count) for number in range(1, count + 1)]


def _hint(names: list[str]) -> str:
    if "adapter_model.safetensors" in names:
        return "It is a LoRA adapter: `localllm convert BASE --lora DIR` converts it."
    return "Give the folder that holds config.json and the weights."
