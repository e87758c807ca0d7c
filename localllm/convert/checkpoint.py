"""A checkpoint in the layout of Hugging Face: its JSON files, its tensors by name, rows on demand.

Reads the headers of the safetensors files, never their weights until rows are asked for, and never a pickle. Where the
files are is behind `Files`, so that a checkpoint may also be read from elsewhere than a local folder. Knows nothing of
GGUF.

Format of safetensors: a u64 with the length of a JSON header; the header maps names to dtype, shape and a range of
bytes behind it.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from localllm.convert.config import Config
from localllm.errors import BadCheckpoint, ModelNotFound, UnsupportedModel

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

DTYPES: dict[str, npt.DTypeLike] = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""What rows come as: bf16 has no numpy type, so its bits come as whole numbers."""

_MAX_HEADER = 100 << 20
_NUMBERED = re.compile(r"model-(\d+)-of-(\d+)\.safetensors")

Rows = npt.NDArray[Any]


class Files(Protocol):
    """The files of one checkpoint."""

    @property
    def title(self) -> str:
        """What messages call it."""

    def names(self) -> list[str]:
        """The names of all files at the top level."""

    def size(self, name: str) -> int:
        """Bytes of a file that is there."""

    def read_into(self, name: str, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset` on; returns the bytes read, fewer only at the end. Safe from any thread."""

    def close(self) -> None:
        """Let go of what is open."""


class LocalFiles:
    """The files of a folder. Each is opened once and read with `pread`, which needs no lock and no mapping."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def title(self) -> str:
        """The folder."""
        return str(self.folder)

    def names(self) -> list[str]:
        """The names of all files in the folder."""
        return sorted(entry.name for entry in self.folder.iterdir() if entry.is_file())

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return (self.folder / name).stat().st_size

    def read_into(self, name: str, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset` on; returns the bytes read, fewer only at the end."""
        with self._lock:
            handle = self._open.get(name)
            if handle is None:
                handle = self._open[name] = os.open(self.folder / name, os.O_RDONLY)
        done = 0
        while done < len(target):
            read = os.preadv(handle, [target[done:]], offset + done)
            if read == 0:
                break
            done += read
        return done

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])


@dataclass(frozen=True)
class SourceTensor:
    """One tensor of the checkpoint. `shape` is in the order of the checkpoint (rows first), `offset` in its file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int

    @property
    def columns(self) -> int:
        """Numbers in a row; a vector is one row."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return math.prod(self.shape[:-1])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.columns * np.dtype(DTYPES[self.dtype]).itemsize


class Checkpoint:
    """A checkpoint whose headers were read and checked. A context manager: leaving it closes the files."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.names = files.names()
        self.config = Config(self.require_json("config.json"))
        _refuse_quantized(self.config)
        self.tensors = _tensors(self)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()

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

        With `buffer` the rows are read into it and the array is a view of it.

        Raises:
            BadCheckpoint: the file became shorter since its header was read.
        """
        tensor = self.tensors[name]
        size = (stop - start) * tensor.row_bytes
        target = memoryview(bytearray(size)) if buffer is None else buffer[:size]
        if self.files.read_into(tensor.file, tensor.offset + start * tensor.row_bytes, target) != size:
            raise BadCheckpoint(f"{self.files.title}: {tensor.file} became shorter while it was read.")
        return np.frombuffer(target, dtype=DTYPES[tensor.dtype]).reshape(stop - start, tensor.columns)


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


def _refuse_quantized(config: Config) -> None:
    found = config.get("quantization_config")
    if found is not None:
        method = found.get("quant_method", "an unknown method") if isinstance(found, dict) else found
        raise UnsupportedModel(
            f"The checkpoint is quantized already ({method}).", hint="Convert the original in BF16, F16 or F32."
        )


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
        return "It is a LoRA adapter: merge it into its base model first."
    return "Give the folder that holds config.json and the safetensors files."


def read_safetensors_header(files: Files, file: str) -> list[SourceTensor]:
    """The tensors of one safetensors file, in the order of its header.

    Raises:
        BadCheckpoint: not a safetensors file, cut short or inconsistent.
        UnsupportedModel: a tensor of a type that is not converted.
    """
    place, size = f"{files.title}: {file}", files.size(file)
    head = bytearray(8)
    if files.read_into(file, 0, memoryview(head)) != 8:
        raise BadCheckpoint(f"{place} is not a safetensors file: it has {size} bytes.")
    (length,) = struct.unpack("<Q", head)
    if length > min(size - 8, _MAX_HEADER):
        raise BadCheckpoint(
            f"{place} is cut short or not a safetensors file: its header should take {length:,} bytes of {size:,}."
        )
    buffer = bytearray(length)
    files.read_into(file, 8, memoryview(buffer))
    try:
        header = json.loads(buffer)
        entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
        tensors = [_source_tensor(file, name, entry, 8 + length, place) for name, entry in entries]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise BadCheckpoint(f"{place}: the header is not that of a safetensors file ({error!r}).") from error
    end = 8 + length + max((entry["data_offsets"][1] for _, entry in entries), default=0)
    if end > size:
        raise BadCheckpoint(
            f"{place} is cut short: {end - size:,} bytes are missing (it has {size:,} of {end:,}).",
            hint="Download it again; nothing was written.",
        )
    return tensors


def _source_tensor(file: str, name: str, entry: dict[str, Any], data: int, place: str) -> SourceTensor:
    dtype, shape = entry["dtype"], tuple(int(n) for n in entry["shape"])
    begin, end = (int(n) for n in entry["data_offsets"])
    if dtype not in DTYPES:
        raise UnsupportedModel(
            f"{place}: {name} is of type {dtype}; {', '.join(DTYPES)} are converted.",
            hint="Convert the original checkpoint in BF16, F16 or F32.",
        )
    wanted = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if min(shape, default=0) < 0 or begin < 0 or end - begin != wanted:
        raise BadCheckpoint(f"{place}: {name} has {end - begin:,} bytes, its shape {list(shape)} takes {wanted:,}.")
    return SourceTensor(name, dtype, shape, file, data + begin)
