"""An importance matrix: how much each column of each matrix matters, measured by llama.cpp's `llama-imatrix`.

Reads the GGUF format and the older binary one. Values are read when a tensor is quantized, so that memory does not grow
with the number of experts. Knows nothing of checkpoints or of what a quantizer does with the values.

Formats: `imatrix-loader.cpp` of llama.cpp. GGUF: for each matrix `NAME.in_sum2` (columns × experts) and `NAME.counts`
(experts), F32. Older: the number of entries (i32), for each its name (i32 length and bytes), calls and values (i32
each), the values (f32); then, if present, the number of chunks (i32) and the name of the data set.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from localllm.convert.header import Keys, text, u32
from localllm.errors import BadModelFile, ModelNotFound
from localllm.gguf_file import Array, Header, read_header

Floats = npt.NDArray[np.float32]

_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True)
class Entry:
    """The values of one matrix: `size` numbers at `offset`, and for each expert how often it was used.

    Values are divided by the count; of an expert that was never used all columns matter alike.
    """

    offset: int
    size: int
    counts: tuple[int, ...]

    @property
    def unused(self) -> int:
        """How many experts were never used while the matrix was measured."""
        return sum(count <= 0 for count in self.counts) if len(self.counts) > 1 else 0


@dataclass(frozen=True)
class ImportanceMatrix:
    """An importance matrix on disk. `chunks` is 0 and `dataset` empty where the file does not say."""

    path: Path
    entries: Mapping[str, Entry]
    chunks: int
    dataset: str

    @property
    def version(self) -> str:
        """A text that is another one when the file was changed."""
        found = self.path.stat()
        return f"{found.st_size} {found.st_mtime_ns}"

    def renamed(self, names: Mapping[str, str]) -> ImportanceMatrix:
        """The same with tensors called as they are where layers were left out (new names by old ones)."""
        kept = {names[name]: entry for name, entry in self.entries.items() if name in names}
        return replace(self, entries=kept)

    def has(self, name: str, columns: int, experts: int) -> bool:
        """Whether there is an entry for a matrix, and of its size."""
        return name in self.entries and self.entries[name].size == columns * experts

    def columns(self, name: str, expert: int, columns: int) -> Floats:
        """The importance of each column of the matrix of one expert; `expert` is 0 for a matrix without experts.

        Raises:
            BadModelFile: the file became shorter since it was opened.
        """
        entry = self.entries[name]
        with self.path.open("rb") as file:
            values = _floats(self.path, file, entry.offset + 4 * expert * columns, columns)
        # The older format has one count for all experts.
        count = entry.counts[expert * len(entry.counts) * columns // entry.size]
        return values / np.float32(count) if count > 0 else np.ones_like(values)


def open_imatrix(path: Path) -> ImportanceMatrix:
    """Read the list of entries of an importance matrix, and check that every number of it is finite.

    Raises:
        ModelNotFound: there is no such file.
        BadModelFile: it is not an importance matrix, cut short, or holds a number that is not finite.
    """
    try:
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
            found = _gguf(path, file) if is_gguf else _older(path, file)
            for name, entry in found.entries.items():
                if not np.isfinite(_floats(path, file, entry.offset, entry.size)).all():
                    raise BadModelFile(f"{path}: the importance of {name} holds a number that is not finite.")
    except FileNotFoundError:
        raise ModelNotFound(f"There is no file {path}.", hint="Give the importance matrix: --imatrix FILE") from None
    except OSError as error:
        raise BadModelFile(f"{path} cannot be read: {error.strerror}.") from error
    return found


def _floats(path: Path, file: BinaryIO, offset: int, count: int) -> Floats:
    file.seek(offset)
    data = file.read(4 * count)
    if len(data) != 4 * count:
        raise BadModelFile(f"{path} ends at byte {offset + len(data)}, in the middle of its values.")
    return np.frombuffer(data, dtype="<f4")


def _gguf(path: Path, file: BinaryIO) -> ImportanceMatrix:
    header = read_header(path)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    entries = {}
    for name in sorted(name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)):
        sums, counts = tensors[name + _SUMS], tensors.get(name + _COUNTS)
        if counts is None or {sums.type_name, counts.type_name} != {"F32"} or sums.elements % counts.elements:
            raise BadModelFile(f"{path}: the sums and the counts of {name} do not belong together.")
        used = np.rint(_floats(path, file, counts.offset, counts.elements))
        entries[name] = Entry(sums.offset, sums.elements, tuple(int(count) for count in used))
    if not entries:
        raise BadModelFile(
            f"{path} is a GGUF that holds no importance matrix.",
            hint=f"Its architecture is {header.architecture}: it is a model." if header.architecture else "",
        )
    return ImportanceMatrix(path, entries, header.integer("imatrix.chunk_count"), _dataset(header))


def _dataset(header: Header) -> str:
    datasets = header.get("imatrix.datasets")
    return str(datasets[0]) if isinstance(datasets, Array) and len(datasets) else ""


def _older(path: Path, file: BinaryIO) -> ImportanceMatrix:
    size = file.seek(0, 2)
    file.seek(0)
    entries: dict[str, Entry] = {}
    for _ in range(_number(path, file, size)):
        name = _text(path, file, size)
        calls, count = _number(path, file, size), _number(path, file, size)
        entries[name] = Entry(file.tell(), count, (calls or 1,))
        if file.seek(4 * count, 1) > size:
            raise BadModelFile(f"{path} ends in the middle of the values of {name}.")
    if not entries:
        raise BadModelFile(f"{path} is not an importance matrix.")
    chunks = _number(path, file, size) if file.tell() < size else 0
    dataset = _text(path, file, size) if file.tell() < size else ""
    return ImportanceMatrix(path, entries, chunks, dataset)


def _number(path: Path, file: BinaryIO, size: int) -> int:
    """An i32 that counts something in the file: the older format has no magic, so nonsense shows here first."""
    data = file.read(4)
    value = int(struct.unpack("<i", data)[0]) if len(data) == 4 else -1
    if not 0 <= value <= size:
        raise BadModelFile(
            f"{path} is not an importance matrix: there is no number at byte {file.tell() - len(data)}.",
            hint="Give what llama-imatrix wrote: imatrix.gguf, or imatrix.dat of older versions.",
        )
    return value


def _text(path: Path, file: BinaryIO, size: int) -> str:
    return file.read(_number(path, file, size)).decode("utf-8", "replace").split("\0")[0]


def check_matches(
    matrix: ImportanceMatrix, quantized: Mapping[str, tuple[int, int]], needing: Collection[str]
) -> list[str]:
    """Whether a matrix was measured on this model; returns what to tell, in words.

    `quantized` holds the columns and the experts of each tensor that will be quantized; `needing` names those that
    llama.cpp refuses to quantize without importance.

    Raises:
        BadModelFile: it is of another model: sizes differ, or what needs an entry has none.
    """
    path, found = matrix.path, [name for name in quantized if name in matrix.entries]
    hint = "It was measured on another model, or on one that was converted in another way."
    if not found:
        raise BadModelFile(f"{path} has no entry for any matrix of this model.", hint=hint)
    for name in found:
        columns, experts = quantized[name]
        size = matrix.entries[name].size
        # llama.cpp lets the embeddings of another size pass as well: it quantizes them without importance.
        if size != columns * experts and not name.endswith("token_embd.weight"):
            wanted = f"{columns} columns" + (f" of {experts} experts" if experts > 1 else "")
            raise BadModelFile(f"{path} has {size} numbers for {name}, which has {wanted}.", hint=hint)
    without = [name for name, (columns, experts) in quantized.items() if not matrix.has(name, columns, experts)]
    for name in without:
        if name in needing:
            raise BadModelFile(
                f"{path} has no entry for {name}, which would be of no use without one in this type.",
                hint="Choose a larger --type, or measure the matrix again on more text.",
            )
    return list(_remarks(matrix, quantized, found, without))


def _remarks(
    matrix: ImportanceMatrix, quantized: Collection[str], found: Sequence[str], without: Sequence[str]
) -> Iterator[str]:
    named = f"the importance matrix {matrix.path.name}"
    if without:
        more = ", …" if len(without) > 3 else ""
        yield f"{named} says nothing of {len(without)} of {len(quantized)} tensors: {', '.join(without[:3])}{more}"
    unused = sum(matrix.entries[name].unused for name in found)
    if unused:
        matrices = sum(matrix.entries[name].unused > 0 for name in found)
        yield f"{unused} experts in {matrices} tensors were never used when {matrix.path.name} was measured"


def provenance(matrix: ImportanceMatrix) -> Keys:
    """The keys that llama-quantize writes about a matrix; it cuts texts after 127 bytes."""
    keys = {"quantize.imatrix.file": text(_cut(str(matrix.path)))}
    if matrix.dataset:
        keys["quantize.imatrix.dataset"] = text(_cut(matrix.dataset))
    keys["quantize.imatrix.entries_count"] = u32(len(matrix.entries))
    if matrix.chunks:
        keys["quantize.imatrix.chunks_count"] = u32(matrix.chunks)
    return keys


def _cut(value: str) -> str:
    return value.encode()[:127].decode("utf-8", "ignore")
