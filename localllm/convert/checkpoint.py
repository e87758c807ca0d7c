"""A checkpoint in the layout of Hugging Face: its JSON files, its tensors by name, rows on demand.

Reads headers, never weights until rows are asked for. Knows nothing of GGUF.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localllm.convert import packed
from localllm.convert.config import Config
from localllm.convert.files import Files, LocalFiles, closed_on_error
from localllm.convert.packed.parts import PackedTensor
from localllm.convert.tensor import Rows, SourceTensor, Tensor, read_rows
from localllm.convert.weights import read_weights
from localllm.errors import BadCheckpoint, ModelNotFound

_AGAIN = "Download the file again, or copy it from where the checkpoint comes from."


class Checkpoint:
    """A checkpoint whose headers were read and checked. A context manager: leaving it closes the files.

    `stored` are the tensors in its files; `tensors` are the weights of the model. They differ where the checkpoint is
    quantized already: what is stored packed in several tensors is one plain tensor there.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self.names = files.names()
        self.config = Config(self.require_json("config.json"))
        self.stored: dict[str, SourceTensor] = read_weights(files, self.json)
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
        except (ValueError, RecursionError) as error:
            raise BadCheckpoint(f"{self.files.title}: {name} is not valid JSON: {error}.", hint=_AGAIN) from error

    def object(self, name: str) -> dict[str, Any]:
        """The JSON object in a file that may be missing: it is empty then.

        Raises:
            BadCheckpoint: the file does not hold an object.
        """
        found = self.json(name) if name in self.names else {}
        if not isinstance(found, dict):
            raise BadCheckpoint(f"{self.files.title}: {name} does not hold a JSON object.")
        return found

    def require_json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file that must be there.

        Raises:
            BadCheckpoint: it is not there or does not hold an object.
        """
        if name not in self.names:
            raise BadCheckpoint(
                f"{self.files.title} has no {name}.", hint=f"Copy {name} from where the checkpoint comes from."
            )
        return self.object(name)

    def content(self, name: str) -> bytes | None:
        """The bytes of a small file, or None when it is not there."""
        if name not in self.names:
            return None
        buffer = bytearray(self.files.size(name))
        read = self.files.read_into(name, 0, memoryview(buffer))
        return bytes(buffer[:read])

    def text(self, name: str) -> str | None:
        """The text of a small file, or None when it is not there."""
        content = self.content(name)
        try:
            return None if content is None else content.decode("utf-8")
        except UnicodeDecodeError as error:
            says = f"{self.files.title}: {name} is not UTF-8: {error.reason} at byte {error.start:,}."
            raise BadCheckpoint(says, hint=_AGAIN) from error

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


def open_checkpoint(source: Path | Files) -> Checkpoint:
    """Read the headers of the checkpoint in a folder, or wherever its files are.

    Raises:
        ModelNotFound: there is no such folder.
        BadCheckpoint: it is not a checkpoint, a shard is missing or cut short, or headers contradict each other.
        UnsupportedModel: its weights are of a type that is not converted.
    """
    files = _local(source) if isinstance(source, Path) else source
    with closed_on_error(files):
        return Checkpoint(files)


def _local(folder: Path) -> LocalFiles:
    if folder.is_dir():
        return LocalFiles(folder)
    if folder.is_file():
        raise BadCheckpoint(
            f"{folder} is a file, not the folder of a checkpoint, and does not begin as a GGUF does.",
            hint="Give the folder that holds config.json and the safetensors files, or a GGUF that is whole.",
        )
    near = nearest_folders(folder)
    raise ModelNotFound(
        f"There is no folder {folder}.",
        hint=f"The nearest here: {', '.join(near)}."
        if near
        else "Give the folder that holds config.json, or org/name of the hub.",
    )


def nearest_folders(folder: Path) -> list[str]:
    """The folders beside the one that is not there with names like its own."""
    try:
        beside = {path.name: str(path) for path in folder.parent.iterdir() if path.is_dir()}
    except OSError:
        return []
    return [beside[name] for name in difflib.get_close_matches(folder.name, beside, n=3, cutoff=0.6)]
