"""Reads and checks the header of a GGUF file: metadata, and what the tensors are and where. Never weights.

Knows the format only, not what a key means to a model, and needs neither llama.cpp nor the `gguf` package, so it
can say what is wrong with a file that those refuse or would crash on. Nothing in the file is trusted: every length
is checked against the file before it is used.

Format: `gguf.h` of llama.cpp. Magic, version (u32), number of tensors and of keys (i64 each), then the keys (name,
type, value), the tensors (name, dimensions, type, offset) and, aligned, their data. Strings are a u64 length and
UTF-8.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from localllm.errors import BadModelFile, ModelNotFound
from localllm.gguf_file.header import Header, TensorInfo
from localllm.gguf_file.numbers import FILE_TYPES, TENSOR_TYPES
from localllm.gguf_file.reader import DEFAULT_ALIGNMENT, Reader
from localllm.gguf_file.values import Array, Value

__all__ = [
    "DEFAULT_ALIGNMENT",
    "FILE_TYPES",
    "TENSOR_TYPES",
    "Array",
    "Header",
    "TensorInfo",
    "Value",
    "read_header",
    "read_parts",
    "read_start",
]


def read_parts(path: Path) -> tuple[Header, ...]:
    """The headers of all files of a model that is split, given any or the first of them; one for a model that is not.

    Raises:
        ModelNotFound: a part is missing; and as `read_header`.
    """
    first = read_header(path)
    count = first.integer("split.count")
    if count < 2:
        return (first,)
    name = re.fullmatch(r"(.+)-\d{5}-of-\d{5}\.gguf", Path(path).name)
    if name is None:
        raise BadModelFile(
            f"{path} is one of {count} parts, but its name does not say which.",
            hint="Give the parts the names they were published with: NAME-00001-of-00003.gguf.",
        )
    parts = [Path(path).with_name(f"{name[1]}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    return tuple(first if part == Path(path) else read_header(part) for part in parts)


def read_header(path: Path) -> Header:
    """Read the header of the GGUF file at `path` and check it, the places of its tensors included.

    Reads the header only: 150,000 tokens take some tens of milliseconds.

    Raises:
        ModelNotFound: there is no such file.
        BadModelFile: not a GGUF, cut short, or inconsistent; the message names the byte and the field.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return Reader(path, file).header()
    except FileNotFoundError:
        raise ModelNotFound(f"There is no file {path}.", hint=_nearest(path)) from None
    except IsADirectoryError:
        checkpoint = (path / "config.json").is_file()
        hint = f"It is a checkpoint: `localllm convert {path}` makes a GGUF of it." if checkpoint else ""
        raise BadModelFile(f"{path} is a folder, not a GGUF file.", hint=hint) from None
    except OSError as error:
        raise BadModelFile(f"{path} cannot be read: {error.strerror}.") from error


def read_start(name: str, start: bytes) -> Header:
    """What the first bytes of the GGUF file `name` tell: the keys that are in them as a whole, and no tensors.

    Raises:
        BadModelFile: it does not begin as a GGUF file does.
    """
    path = Path(name)
    reader = Reader(path, io.BytesIO(start))
    version, _, n_keys = reader.preamble()
    metadata: dict[str, Value] = {}
    with contextlib.suppress(BadModelFile):  # where the bytes end
        for index in range(n_keys):
            key = reader.string(f"name of key {index} of {n_keys}")
            metadata[key] = reader.value(key)
    return Header(path, version, DEFAULT_ALIGNMENT, metadata, (), len(start), len(start))


def _nearest(path: Path) -> str:
    import difflib

    try:
        here = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"There is no folder {path.parent} either."
    near = difflib.get_close_matches(path.name, here, n=3, cutoff=0.5)
    return f"Nearest: {', '.join(near)}." if near else ""
