"""A checkpoint in the layout of Hugging Face: its JSON files, its tensors by name, rows on demand.

Reads the headers of the safetensors files, never their weights until rows are asked for, and never a pickle. Knows
nothing of GGUF.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from localllm.convert import packed
from localllm.convert.config import Config
from localllm.convert.files import Files, LocalFiles
from localllm.convert.packed.parts import PackedTensor
from localllm.convert.safetensors import read_safetensors_header
from localllm.convert.tensor import Rows, SourceTensor, Tensor, read_rows
from localllm.errors import BadCheckpoint, ModelNotFound

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_NUMBERED = re.compile(r"model-(\d+)-of-(\d+)\.safetensors")


class Checkpoint:
    """A checkpoint whose headers were read and checked. A context manager: leaving it closes the files.

    `stored` are the tensors in its files; `tensors` are the weights of the model. They differ where the checkpoint is
    quantized already: what is stored packed in several tensors is one plain tensor there.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self.names = files.names()
        self.config = Config(self.require_json("config.json"))
        self.stored: dict[str, SourceTensor] = _tensors(self)
        self.tensors: dict[str, Tensor] = packed.unpack(files, self._packing(), self.stored)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def _packing(self) -> Mapping[str, Any] | None:
        beside = {name: self.json(name) for name in packed.BESIDE if name in self.names}
        return packed.settings(self.config, beside)

    def json(self, name: str) -> Any:
        """The content of a JSON file, or None when it is not there.

        Raises:
            BadCheckpoint: it does not parse.
        """
        content = self.text(name)
        if content is None:
            return None
        try:
            return json.loads(content)
        except ValueError as error:
            raise BadCheckpoint(f"{self.files.title}: {name} is not valid JSON: {error}.") from error

    def require_json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file that must be there.

        Raises:
            BadCheckpoint: it is not there or does not hold an object.
        """
        found = self.json(name)
        if found is None:
            raise BadCheckpoint(
                f"{self.files.title} has no {name}.", hint=f"Copy {name} from where the checkpoint comes from."
            )
        if not isinstance(found, dict):
            raise BadCheckpoint(f"{self.files.title}: {name} does not hold a JSON object.")
        return found

    def text(self, name: str) -> str | None:
        """The text of a small file, or None when it is not there."""
        if name not in self.names:
            return None
        buffer = bytearray(self.files.size(name))
        read = self.files.read_into(name, 0, memoryview(buffer))
        try:
            return buffer[:read].decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadCheckpoint(f"{self.files.title}: {name} is not UTF-8: {error}.") from error

    def rows(self, name: str, start: int, stop: int, buffer: memoryview | None = None) -> Rows:
        """Rows `start` to `stop` of a tensor as an array (stop - start, columns); bf16 as its bits.

        With `buffer` stored rows are read into it and the array is a view of it.

        Raises:
            BadCheckpoint: the file became shorter since its header was read.
        """
        tensor = self.tensors[name]
        if isinstance(tensor, PackedTensor):
            return tensor.unpack(self.files, start, stop)
        return read_rows(self.files, self.stored[name], start, stop, buffer)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the headers of the checkpoint in `folder`.

    Raises:
        ModelNotFound: there is no such folder.
        BadCheckpoint: it is not a checkpoint, a shard is missing or cut short, or headers contradict each other.
        UnsupportedModel: its weights are of a type that is not converted.
    """
    if not folder.is_dir():
        if folder.is_file():
            raise BadCheckpoint(
                f"{folder} is a file, not the folder of a checkpoint.",
                hint="Give the folder that holds config.json and the safetensors files.",
            )
        raise ModelNotFound(f"There is no folder {folder}.", hint="Give the folder that holds config.json.")
    return Checkpoint(LocalFiles(folder))


def _tensors(checkpoint: Checkpoint) -> dict[str, SourceTensor]:
    """All tensors, in the order of the files and of their headers."""
    title = checkpoint.files.title
    weight_map = _weight_map(checkpoint)
    tensors: dict[str, SourceTensor] = {}
    for file in _weight_files(checkpoint, weight_map):
        for tensor in read_safetensors_header(checkpoint.files, file):
            if tensor.name in tensors:
                raise BadCheckpoint(f"{title}: {tensor.name} is in {tensors[tensor.name].file} and in {file}.")
            tensors[tensor.name] = tensor
    for name, file in weight_map.items():
        if name not in tensors:
            raise BadCheckpoint(f"{title}: {INDEX} puts {name} in {file}, but it is not there.")
    unlisted = [name for name in tensors if weight_map and name not in weight_map]
    if unlisted:
        raise BadCheckpoint(f"{title}: {tensors[unlisted[0]].file} holds {unlisted[0]}, which {INDEX} does not list.")
    return tensors


def _weight_map(checkpoint: Checkpoint) -> dict[str, str]:
    """The shard of each tensor by the index; empty when there is none or a single file makes it moot."""
    if SINGLE in checkpoint.names:
        return {}
    index = checkpoint.json(INDEX)
    if index is None:
        return {}
    found = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(found, dict) or not all(isinstance(file, str) for file in found.values()):
        raise BadCheckpoint(f"{checkpoint.files.title}: {INDEX} has no weight_map.")
    return found


def _weight_files(checkpoint: Checkpoint, weight_map: dict[str, str]) -> list[str]:
    """The safetensors files to read, all there."""
    names, title = checkpoint.names, checkpoint.files.title
    if SINGLE in names:
        return [SINGLE]
    if weight_map:
        wanted = sorted(set(weight_map.values()))
        missing = [file for file in wanted if file not in names]
        if missing:
            lost = sum(file == missing[0] for file in weight_map.values())
            raise BadCheckpoint(
                f"{title}: shard {missing[0]} is missing; {INDEX} puts {lost} tensors in it"
                + (f" ({len(missing)} of {len(wanted)} shards are missing)." if len(missing) > 1 else "."),
                hint="Download the missing files; nothing was written.",
            )
        return wanted
    shards = {match.group(0): match for match in map(_NUMBERED.fullmatch, names) if match}
    if shards:
        count = max(int(match.group(2)) for match in shards.values())
        wanted = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
        missing = [file for file in wanted if file not in shards]
        if missing:
            raise BadCheckpoint(f"{title}: shard {missing[0]} is missing.", hint="Download the missing files.")
        return wanted
    raise BadCheckpoint(f"{title} holds no weights: no {SINGLE} and no {INDEX}.", hint=_weights_hint(names))


def _weights_hint(names: Iterable[str]) -> str:
    files = list(names)
    if any(name.endswith((".bin", ".pt", ".pth")) for name in files):
        return (
            "Its weights are a pickle, which can run code when it is read. Save it again with transformers: "
            "model.save_pretrained(folder, safe_serialization=True)."
        )
    if "adapter_model.safetensors" in files:
        return "It is a LoRA adapter: `localllm convert BASE --lora DIR` converts it."
    return "Give the folder that holds config.json and the safetensors files."
