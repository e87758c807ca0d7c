"""Writes files as `torch.save` does, opcode by opcode, whole ones and wicked ones. Needs no torch."""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

Storages = Mapping[str, bytes]

KINDS = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "I64": "LongStorage"}


def text(value: str) -> bytes:
    """The opcodes that push a text."""
    content = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    """Those that push a whole number."""
    content = value.to_bytes(16, "little", signed=True)
    return pickle.LONG1 + bytes([len(content)]) + content


def named(module: str, name: str) -> bytes:
    """Those that push a global."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def tuple_of(*parts: bytes) -> bytes:
    """Those that push a tuple."""
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def called(function: bytes, *arguments: bytes) -> bytes:
    """Those that push what a call gives."""
    return function + tuple_of(*arguments) + pickle.REDUCE


def dictionary(items: Mapping[str, bytes]) -> bytes:
    """Those that push a dictionary."""
    return pickle.EMPTY_DICT + pickle.MARK + b"".join(text(k) + v for k, v in items.items()) + pickle.SETITEMS


def script(value: bytes) -> bytes:
    """A whole pickle."""
    return pickle.PROTO + b"\2" + value + pickle.STOP


def tensor(
    key: str, shape: tuple[int, ...], kind: str = "FloatStorage", first: int = 0, strides: tuple[int, ...] | None = None
) -> bytes:
    """The opcodes that push a tensor."""
    steps = strides or tuple(math.prod(shape[side + 1 :]) for side in range(len(shape)))
    storage = tuple_of(text("storage"), named("torch", kind), text(key), text("cpu"), number(1)) + pickle.BINPERSID
    hooks = called(named("collections", "OrderedDict"))
    sizes = (tuple_of(*map(number, shape)), tuple_of(*map(number, steps)))
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    return called(rebuild, storage, number(first), *sizes, pickle.NEWFALSE, hooks)


def write_zip(path: Path, program: bytes, storages: Storages, compression: int = zipfile.ZIP_STORED) -> Path:
    """A file in the format since torch 1.6."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", b"little", zipfile.ZIP_STORED)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def write_tensors(path: Path, tensors: Mapping[str, tuple[str, npt.NDArray[np.generic]]]) -> Path:
    """A state_dict of tensors, each given as its type's name in safetensors and its numbers."""
    items, storages = {}, {}
    for place, (name, (dtype, numbers)) in enumerate(tensors.items()):
        items[name] = tensor(str(place), numbers.shape, KINDS[dtype])
        storages[str(place)] = np.ascontiguousarray(numbers).tobytes()
    return write_zip(path, script(dictionary(items)), storages)
