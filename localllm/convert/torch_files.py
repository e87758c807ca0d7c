"""The tensors of a file that `torch.save` wrote, `pytorch_model.bin`: where they are, without torch.

There are two formats. Since torch 1.6 it is a zip file, not compressed, with a pickle `data.pkl` that describes the
tensors and a member for each storage. Before, it was five pickles behind each other and then the storages. A pickle is
read as data: what is no tensor is refused, and nothing in it is run. No weight is read.

Sources: `torch.serialization` and `torch._utils`.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from localllm.convert.files import Files
from localllm.convert.pickles import Call, Global, Persistent, read_pickle
from localllm.convert.tensor import DTYPES, SourceTensor
from localllm.errors import BadCheckpoint, UnsupportedModel

_STORAGES = {
    "torch DoubleStorage": "F64",
    "torch FloatStorage": "F32",
    "torch HalfStorage": "F16",
    "torch BFloat16Storage": "BF16",
    "torch LongStorage": "I64",
    "torch IntStorage": "I32",
    "torch ShortStorage": "I16",
    "torch CharStorage": "I8",
    "torch ByteStorage": "U8",
    "torch BoolStorage": "BOOL",
    "torch.storage UntypedStorage": "U8",
}
_TYPES = {
    "torch float8_e4m3fn": "F8_E4M3",
    "torch float8_e5m2": "F8_E5M2",
    "torch float8_e8m0fnu": "F8_E8M0",
    "torch uint16": "U16",
    "torch uint32": "U32",
    "torch uint64": "U64",
}
_TENSOR, _TENSOR_3 = "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3"
_PARAMETERS = ("torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state")
_ALLOWED = {*_STORAGES, *_TYPES, _TENSOR, _TENSOR_3, *_PARAMETERS, "collections OrderedDict"}

_MAX_PICKLE = 64 << 20
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_ZIP_HEADER = struct.Struct("<4s22xHH")


@dataclass(frozen=True)
class _Storage:
    """Numbers behind each other in the file."""

    offset: int
    n_bytes: int


class _Window(io.RawIOBase):
    """A part of a file as Python's own readers want it."""

    def __init__(self, files: Files, file: str, start: int = 0, length: int | None = None) -> None:
        self._files, self._file, self._start, self._at = files, file, start, 0
        left = files.size(file) - start
        self.length = left if length is None else min(length, left)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere in the part."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.length}[whence]
        if self._at < 0:
            raise ValueError("a place before the beginning")
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read what follows, no further than the part goes."""
        target = memoryview(buffer)[: max(self.length - self._at, 0)]
        read = self._files.read_into(self._file, self._start + self._at, target) if target else 0
        self._at += read
        return read


class _Reader(io.BufferedReader):
    """A buffer over a part that asks for no more memory than the part has, whatever length a damaged file names."""

    def __init__(self, part: _Window) -> None:
        super().__init__(part)
        self._end = part.length

    def read(self, size: int | None = -1) -> bytes:
        """Read at most what is left."""
        left = max(self._end - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def read_torch_header(files: Files, file: str) -> list[SourceTensor]:
    """The tensors of a file of `torch.save`, in the order of its dictionary.

    Raises:
        BadCheckpoint: it is neither format, is cut short or damaged, or has more in it than tensors.
        UnsupportedModel: a tensor of a type or a layout that is not converted.
    """
    place = f"{files.title}: {file}"
    head = bytearray(4)
    files.read_into(file, 0, memoryview(head))
    found, storage = _zip(files, file, place) if head == b"PK\3\4" else _legacy(files, file, place)
    if not isinstance(found, dict):
        raise BadCheckpoint(f"{place}: the pickle holds no dictionary of tensors.")
    return [_source_tensor(name, value, file, place, storage) for name, value in found.items()]


Storages = Callable[[str], _Storage]


def _zip(files: Files, file: str, place: str) -> tuple[Any, Storages]:
    """What the pickle of a zip file says, and where a storage of a name is."""
    try:
        with zipfile.ZipFile(_Reader(_Window(files, file))) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, EOFError) as error:
        raise BadCheckpoint(f"{place} is cut short or damaged: {error}.", hint="Download it again.") from error
    held = {member.filename: member for member in members}
    roots = [name.removesuffix("data.pkl") for name in held if name.endswith("/data.pkl") and name.count("/") == 1]
    ends = [member.header_offset + _ZIP_HEADER.size + member.compress_size for member in members]
    starts = [member.header_offset for member in members]
    overlaps = any(end > start for end, start in zip(sorted(ends), sorted(starts)[1:], strict=False))
    if len(roots) != 1 or len(held) != len(members) or overlaps or min(starts, default=0) < 0:
        raise BadCheckpoint(f"{place} is a zip file, but not one that torch.save writes.")

    def member(name: str) -> _Storage:
        found = held.get(roots[0] + name)
        if found is None:
            raise BadCheckpoint(f"{place}: the storage {name} of a tensor is missing.")
        return _member(files, file, place, found)

    if "byteorder" in {name.removeprefix(roots[0]) for name in held}:
        order = member("byteorder")
        content = bytearray(min(order.n_bytes, 16))
        files.read_into(file, order.offset, memoryview(content))
        if content != b"little":
            raise UnsupportedModel(f"{place} was written on a machine whose bytes go the other way round.")
    script = member("data.pkl")
    window = _Window(files, file, script.offset, min(script.n_bytes, _MAX_PICKLE))
    return read_pickle(_Reader(window), _ALLOWED, place), lambda key: member(f"data/{key}")


def _member(files: Files, file: str, place: str, info: zipfile.ZipInfo) -> _Storage:
    """Where the bytes of a member are, which must be there as they are."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
        raise BadCheckpoint(f"{place}: {info.filename} is compressed, which torch.save does not do.")
    head = bytearray(_ZIP_HEADER.size)
    files.read_into(file, info.header_offset, memoryview(head))
    magic, name, extra = _ZIP_HEADER.unpack(head)
    offset = info.header_offset + _ZIP_HEADER.size + name + extra
    if magic != b"PK\3\4" or offset + info.file_size > files.size(file):
        raise BadCheckpoint(f"{place} is cut short or damaged at {info.filename}.", hint="Download it again.")
    return _Storage(offset, info.file_size)


def _legacy(files: Files, file: str, place: str) -> tuple[Any, Storages]:
    """The same of the older format."""
    size = files.size(file)
    reader = _Reader(_Window(files, file, 0, _MAX_PICKLE))
    magic = read_pickle(reader, (), place)
    if magic != _LEGACY_MAGIC:
        raise BadCheckpoint(f"{place} is not a file that torch.save writes.")
    protocol, system = read_pickle(reader, (), place), read_pickle(reader, (), place)
    if protocol != _LEGACY_PROTOCOL or not isinstance(system, dict):
        raise BadCheckpoint(f"{place} is of a format of torch.save that is not known: {protocol!r}.")
    if system.get("little_endian") is not True:
        raise UnsupportedModel(f"{place} was written on a machine whose bytes go the other way round.")
    found, keys = read_pickle(reader, _ALLOWED, place), read_pickle(reader, (), place)
    widths = _widths(found)
    held: dict[str, _Storage] = {}
    at = reader.tell()
    for key in keys if isinstance(keys, list) else ():
        head = bytearray(8)
        files.read_into(file, at, memoryview(head))
        (count,) = struct.unpack("<q", head)
        held[str(key)] = _Storage(at + 8, count * widths.get(str(key), 1))
        at += 8 + held[str(key)].n_bytes
        if count < 0 or at > size:
            raise BadCheckpoint(f"{place} is cut short: {at - size:,} bytes are missing.", hint="Download it again.")

    def storage(key: str) -> _Storage:
        if key not in held:
            raise BadCheckpoint(f"{place}: the storage {key} of a tensor is missing.")
        return held[key]

    return found, storage


def _widths(found: Any) -> Mapping[str, int]:
    """Bytes of a number of each storage, by its key, from the tensors that are in it."""
    widths = {}
    for value in found.values() if isinstance(found, dict) else ():
        call = _tensor_call(value)
        if call is not None and call.arguments:
            with suppress(ValueError):  # whose tensor is refused with its name afterwards
                dtype, key = _storage_key(call.arguments[0])
                widths[key] = np.dtype(DTYPES[dtype]).itemsize
    return widths


def _tensor_call(value: Any) -> Call | None:
    """The call that would make a tensor, also where it is a parameter."""
    if isinstance(value, Call) and value.function.name in _PARAMETERS and value.arguments:
        value = value.arguments[0]
    if isinstance(value, Call) and value.function.name in (_TENSOR, _TENSOR_3):
        return value
    return None


def _storage_key(reference: Any) -> tuple[str, str]:
    """Type and key of a storage: `("storage", kind, key, device, numbers)`, and None where it is a view of another."""
    key = reference.key if isinstance(reference, Persistent) else None
    if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage" or any(part is not None for part in key[5:]):
        raise ValueError("no storage")
    kind = key[1]
    if not isinstance(kind, Global) or kind.name not in _STORAGES:
        raise ValueError("no type")
    return _STORAGES[kind.name], str(key[2])


def _source_tensor(name: Any, value: Any, file: str, place: str, storage: Storages) -> SourceTensor:
    call = _tensor_call(value)
    if not isinstance(name, str) or call is None:
        raise BadCheckpoint(
            f"{place}: {name!r} is no tensor.", hint="Only a state_dict, a dictionary of tensors, is read."
        )
    try:
        reference, first, shape, strides, *more = call.arguments
        dtype, key = _storage_key(reference)
        if call.function.name == _TENSOR_3:
            dtype = _TYPES[more[2].name]
        sides = (*shape, *strides, first)
        if not all(type(side) is int and side >= 0 for side in sides) or len(shape) != len(strides):
            raise ValueError("sides that are none")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise BadCheckpoint(f"{place}: the pickle does not say what the tensor {name} is ({error}).") from error
    if not _contiguous(shape, strides):
        raise UnsupportedModel(
            f"{place}: the numbers of {name} {list(shape)} do not lie behind each other: strides {list(strides)}.",
            hint="Save it again with transformers: model.save_pretrained(folder, safe_serialization=True).",
        )
    width, held = np.dtype(DTYPES[dtype]).itemsize, storage(key)
    if (first + math.prod(shape)) * width > held.n_bytes:
        raise BadCheckpoint(
            f"{place}: {name} takes {math.prod(shape) * width:,} bytes from {first * width:,} on; its storage has "
            f"{held.n_bytes:,}."
        )
    return SourceTensor(name, dtype, tuple(shape), file, held.offset + first * width)


def _contiguous(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the numbers lie behind each other. The stride of a side of one means nothing."""
    wanted = [math.prod(shape[side + 1 :]) for side in range(len(shape))]
    return all(size == 1 or stride == want for size, stride, want in zip(shape, strides, wanted, strict=True))
