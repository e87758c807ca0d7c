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
import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeVar, Union, overload

from localllm.errors import BadModelFile, ModelNotFound

TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}
"""ggml's tensor types by number: name, elements per block, bytes per block. A test compares it with ggml."""

FILE_TYPES: dict[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}
"""`general.file_type` by number (`enum llama_ftype`): the quantization that a person asked for."""

DEFAULT_ALIGNMENT = 32
MAX_DIMS = 4
MAX_NAME = 63

# Far above any published model (the largest headers hold some 20 MB of vocabulary), low enough to be harmless.
_MAX_HEADER = 128 << 20
_MAX_KEYS = 1 << 16
_MAX_TENSORS = 1 << 18
_MAX_ELEMENTS = 1 << 22
_FIRST_READ = 1 << 20

_SCALARS: dict[int, str] = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_U64 = struct.Struct("<Q")

Scalar = Union[int, float, bool, str]  # noqa: UP007 - evaluated at run time on Python 3.10 as well
Value = Union[Scalar, "Array"]
_T = TypeVar("_T")


class Array(Sequence[Scalar]):
    """An array of metadata, kept as the bytes of the file and decoded when first read."""

    def __init__(self, kind: int, count: int, raw: bytes) -> None:
        self._kind, self._count, self._raw = kind, count, raw

    @cached_property
    def _values(self) -> tuple[Scalar, ...]:
        if self._kind != _STRING:
            code = _SCALARS[self._kind]
            return struct.unpack(f"<{self._count}{code[1]}", self._raw)
        raw, at, strings = self._raw, 0, []
        for _ in range(self._count):
            start = at + 8
            at = start + _U64.unpack_from(raw, at)[0]
            strings.append(raw[start:at].decode("utf-8", "replace"))
        return tuple(strings)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Scalar: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Scalar, ...]: ...
    def __getitem__(self, index: int | slice) -> Scalar | tuple[Scalar, ...]:
        return self._values[index]

    def __iter__(self) -> Iterator[Scalar]:
        return iter(self._values)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Array):
            return (self._kind, self._count, self._raw) == (other._kind, other._count, other._raw)
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Array({self._count} of {'string' if self._kind == _STRING else _SCALARS[self._kind][1]})"


@dataclass(frozen=True)
class TensorInfo:
    """One tensor. `shape` is in GGUF's order (row length first), `offset` counts from the start of the file."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    n_bytes: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about itself. Sizes and offsets in bytes.

    `spans` says from where to where each key's type and value stand in the file.
    """

    path: Path
    version: int
    alignment: int
    metadata: dict[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    file_bytes: int
    spans: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False, compare=False)

    @overload
    def get(self, key: str) -> Value | None: ...
    @overload
    def get(self, key: str, default: _T) -> Value | _T: ...
    def get(self, key: str, default: _T | None = None) -> Value | _T | None:
        """The value of `key`; `{arch}` stands for the architecture: `header.get("{arch}.block_count")`."""
        return self.metadata.get(key.replace("{arch}", self.architecture), default)

    def integer(self, key: str, default: int = 0) -> int:
        """Like `get`, for a whole number. A value that differs between layers gives the largest.

        Raises:
            BadModelFile: the value is not a whole number.
        """
        value = self.get(key, default)
        if isinstance(value, Array):
            value = max((item for item in value if isinstance(item, int)), default=default)
        if not isinstance(value, int):
            name = key.replace("{arch}", self.architecture)
            raise BadModelFile(f"{self.path}: {name} is {value!r}, not a number.")
        return int(value)

    def without_vocabulary(self) -> Header:
        """The same without the arrays of the tokenizer: of hundreds of thousands of tokens they are megabytes."""
        small = {key: value for key, value in self.metadata.items() if not _is_vocabulary(key, value)}
        return replace(self, metadata=small)

    @property
    def architecture(self) -> str:
        """`llama`, `qwen3`…; empty when the file does not say."""
        value = self.metadata.get("general.architecture", "")
        return value if isinstance(value, str) else ""

    @property
    def name(self) -> str:
        """The model's own name, else the file's."""
        value = self.metadata.get("general.name", "")
        return value if isinstance(value, str) and value else self.path.stem

    @property
    def quantization(self) -> str:
        """The quantization type (`Q4_K_M`); where the file names none, the type of most of its weights."""
        named = FILE_TYPES.get(self.integer("general.file_type", -1))
        if named:
            return named
        sizes: dict[str, int] = {}
        for tensor in self.tensors:
            sizes[tensor.type_name] = sizes.get(tensor.type_name, 0) + tensor.elements
        return max(sizes, key=sizes.__getitem__, default="unknown")

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        """The bytes of all weights, without padding."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    @property
    def n_layer(self) -> int:
        """Repeating layers; 0 when the file does not say."""
        return self.integer("{arch}.block_count")

    @property
    def context_length(self) -> int:
        """The context it was trained with, in tokens; 0 when the file does not say."""
        return self.integer("{arch}.context_length")


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
            return _Reader(path, file).header()
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
    reader = _Reader(path, io.BytesIO(start))
    version, _, n_keys = reader.preamble()
    metadata: dict[str, Value] = {}
    with contextlib.suppress(BadModelFile):  # where the bytes end
        for index in range(n_keys):
            key = reader.string(f"name of key {index} of {n_keys}")
            metadata[key] = reader.value(key)
    return Header(path, version, DEFAULT_ALIGNMENT, metadata, (), len(start), len(start))


def _is_vocabulary(key: str, value: Value) -> bool:
    return key.startswith("tokenizer.") and isinstance(value, Array)


def _nearest(path: Path) -> str:
    import difflib

    try:
        here = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"There is no folder {path.parent} either."
    near = difflib.get_close_matches(path.name, here, n=3, cutoff=0.5)
    return f"Nearest: {', '.join(near)}." if near else ""


class _Reader:
    """Walks the header from its first byte. Reads more of the file only when a checked length asks for it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.size = file.seek(0, 2)
        file.seek(0)
        self.buffer, self.at = b"", 0

    def bad(self, field: str, what: str, at: int | None = None) -> BadModelFile:
        place = self.at if at is None else at
        return BadModelFile(
            f"{self.path}: {field} at byte {place:,}: {what}.",
            hint="The file is damaged or incomplete: download or convert it again.",
        )

    def need(self, count: int, field: str) -> int:
        """Make sure that `count` more bytes are in the buffer, step over them and return where they start."""
        start, end = self.at, self.at + count
        if end > len(self.buffer):
            if end > self.size:
                raise self.bad(field, f"needs {count:,} bytes, but the file ends at byte {self.size:,}")
            if end > _MAX_HEADER:
                raise self.bad(field, f"a header of more than {_MAX_HEADER >> 20} MiB is not plausible")
            target = min(self.size, max(end, 2 * len(self.buffer), _FIRST_READ))
            self.buffer += self.file.read(target - len(self.buffer))
            if end > len(self.buffer):
                raise self.bad(field, "the file became shorter while it was read")
        self.at = end
        return start

    def number(self, code: str, field: str) -> int | float | bool:
        start = self.need(struct.calcsize(code), field)
        value: int | float | bool = struct.unpack_from(code, self.buffer, start)[0]
        return value

    def count(self, code: str, field: str, limit: int) -> int:
        start = self.at
        value = int(self.number(code, field))
        if not 0 <= value <= limit:
            raise self.bad(field, f"{value:,} is not plausible", start)
        return value

    def string(self, field: str) -> str:
        start = self.at
        length = int(self.number("<Q", f"length of {field}"))
        if length > self.size - self.at:
            raise self.bad(f"length of {field}", f"{length:,} bytes, but the file has {self.size:,}", start)
        begin = self.need(length, field)
        try:
            return self.buffer[begin : self.at].decode("utf-8")
        except UnicodeDecodeError:
            raise self.bad(field, "not valid UTF-8", begin) from None

    def header(self) -> Header:
        version, n_tensors, n_keys = self.preamble()
        metadata: dict[str, Value] = {}
        spans: dict[str, tuple[int, int]] = {}
        for index in range(n_keys):
            start = self.at
            key = self.string(f"name of key {index} of {n_keys}")
            if not key or key in metadata:
                what = f"{key!r} is there twice" if key else "is empty"
                raise self.bad(f"name of key {index}", what, start)
            begin = self.at
            metadata[key] = self.value(key)
            spans[key] = begin, self.at
        alignment = self.alignment(metadata)
        infos = self.tensor_infos(n_tensors)
        # A file without tensors (a vocabulary) ends where its header ends, so it has no padding.
        data_offset = _align(self.at, alignment) if infos else self.at
        tensors = self.placed(infos, data_offset, alignment)
        return Header(self.path, version, alignment, metadata, tensors, data_offset, self.size, spans)

    def preamble(self) -> tuple[int, int, int]:
        if self.size < 4:
            raise BadModelFile(f"{self.path} is not a GGUF file: it has {self.size} bytes.")
        self.need(4, "magic")
        magic = self.buffer[:4]
        if magic != b"GGUF":
            raise BadModelFile(
                f"{self.path} is not a GGUF file: it starts with {magic!r}, not b'GGUF' (byte 0).",
                hint="`localllm convert` makes a GGUF of a Hugging Face checkpoint.",
            )
        version = int(self.number("<I", "version"))
        if version & 0xFFFF == 0 and version:
            raise BadModelFile(f"{self.path} is a big-endian GGUF (byte 4); only little-endian is read.")
        if version not in (2, 3):
            raise BadModelFile(f"{self.path}: version {version} at byte 4; versions 2 and 3 are read.")
        n_tensors = self.count("<q", "number of tensors", _MAX_TENSORS)
        n_keys = self.count("<q", "number of keys", _MAX_KEYS)
        return version, n_tensors, n_keys

    def value(self, key: str) -> Value:
        start = self.at
        kind = int(self.number("<i", f"type of {key}"))
        if kind == _STRING:
            return self.string(key)
        if kind == _ARRAY:
            return self.array(key)
        if kind not in _SCALARS:
            raise self.bad(f"type of {key}", f"{kind} is not a GGUF type", start)
        return self.number(_SCALARS[kind], key)

    def array(self, key: str) -> Array:
        start = self.at
        kind = int(self.number("<i", f"element type of {key}"))
        count = self.count("<Q", f"length of {key}", _MAX_ELEMENTS)
        if kind == _STRING:
            return Array(kind, count, self.strings(key, count))
        if kind not in _SCALARS:
            raise self.bad(f"element type of {key}", f"{kind} is not a type for arrays", start)
        begin = self.need(count * struct.calcsize(_SCALARS[kind]), key)
        return Array(kind, count, self.buffer[begin : self.at])

    def strings(self, key: str, count: int) -> bytes:
        """Step over `count` strings; their bytes, lengths included."""
        begin = at = self.at
        unpack, buffer, length = _U64.unpack_from, self.buffer, 0
        for index in range(count):  # hundreds of thousands: only the lengths are looked at
            try:
                (length,) = unpack(buffer, at)
            except (struct.error, OverflowError):  # it is not in the buffer
                self.ended(key, index - 1, at, length)
                self.need(8, f"length of {key}[{index}]")
                buffer = self.buffer
                (length,) = unpack(buffer, at)
            at += 8 + length
        self.ended(key, count - 1, at, length)
        return self.buffer[begin:at]

    def ended(self, key: str, index: int, at: int, length: int) -> None:
        """Step to the end `at` of a string of an array, which has that length."""
        self.at = at - length
        self.need(length, f"{key}[{index}]")

    def alignment(self, metadata: dict[str, Value]) -> int:
        value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(value, int) or not 1 <= value <= 1 << 24 or value & (value - 1):
            raise self.bad("general.alignment", f"{value!r} is not a power of two")
        return value

    def tensor_infos(self, count: int) -> list[tuple[str, tuple[int, ...], int, int, int]]:
        """Name, shape, type, offset and the byte of each entry, each checked by itself."""
        infos = []
        names: set[str] = set()
        for index in range(count):
            start = self.at
            name = self.string(f"name of tensor {index} of {count}")
            if name in names or len(name.encode()) > MAX_NAME:
                raise self.bad(f"name of tensor {index}", f"{name[:80]!r} is there twice or too long", start)
            names.add(name)
            n_dims = self.count("<I", f"dimensions of {name}", MAX_DIMS)
            shape = tuple(self.count("<q", f"shape of {name}", 1 << 48) for _ in range(n_dims)) or (1,)
            kind_at = self.at
            kind = int(self.number("<i", f"type of {name}"))
            if kind not in TENSOR_TYPES:
                raise self.bad(f"type of {name}", f"{kind} is not a tensor type that is known", kind_at)
            type_name, block, _ = TENSOR_TYPES[kind]
            if shape[0] % block:
                what = f"rows of {shape[0]} do not fill {type_name} blocks of {block}"
                raise self.bad(f"shape of {name}", what, start)
            infos.append((name, shape, kind, int(self.number("<Q", f"offset of {name}")), start))
        return infos

    def placed(
        self, infos: list[tuple[str, tuple[int, ...], int, int, int]], data_offset: int, alignment: int
    ) -> tuple[TensorInfo, ...]:
        """The tensors, checked to follow each other without a gap, as ggml demands, and to end inside the file."""
        expected, tensors = 0, []
        for name, shape, kind, offset, at in infos:
            if offset != expected:
                raise self.bad(f"offset of {name}", f"{offset:,} where {expected:,} comes next", at)
            type_name, block, block_bytes = TENSOR_TYPES[kind]
            n_bytes = math.prod(shape) // block * block_bytes
            tensors.append(TensorInfo(name, shape, type_name, data_offset + offset, n_bytes))
            expected = _align(offset + n_bytes, alignment)
        end = max((tensor.offset + tensor.n_bytes for tensor in tensors), default=0)
        if end > self.size:
            cut = next(tensor for tensor in tensors if tensor.offset + tensor.n_bytes > self.size)
            raise BadModelFile(
                f"{self.path} is cut short: {end - self.size:,} bytes are missing "
                f"(it has {self.size:,} of {end:,}). "
                f"The first tensor that is not whole is {cut.name} at byte {cut.offset:,}.",
                hint="Download or convert it again.",
            )
        return tuple(tensors)


def _align(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment
