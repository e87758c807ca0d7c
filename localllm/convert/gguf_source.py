"""A GGUF as the source of a conversion: its keys as they are, its tensors dequantized where their type changes.

Knows no family and no tokenizer: the file has been through both already.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from localllm.convert.choices import UntypedModel
from localllm.convert.files import LocalFiles
from localllm.convert.header import Keys, KeyValue
from localllm.convert.plan import PlannedTensor, file_order
from localllm.convert.tensor import BLOCKS, SourceTensor, StoredRows
from localllm.convert.transforms import Keep
from localllm.errors import UnsupportedModel
from localllm.gguf_file import Header, read_parts

_MADE_ANEW = ("general.alignment", "general.quantization_version", "general.file_type")


def is_gguf(path: Path) -> bool:
    """Whether there is a file at `path` that begins as a GGUF does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def open_gguf(path: Path) -> tuple[StoredRows, UntypedModel, Header]:
    """The tensors of the GGUF at `path`, the model that they are, and the header of its first file.

    The tensors of all its files, when it is split.

    Raises:
        ModelNotFound, BadModelFile: a file is missing, damaged or cut short.
        UnsupportedModel: a tensor cannot be converted.
    """
    headers = read_parts(path)
    source = stored_rows(headers)
    stored = source.tensors
    for tensor in stored.values():
        if tensor.dtype in BLOCKS and len(tensor.shape) < 2:
            raise UnsupportedModel(f"{path}: {tensor.name} is a vector of type {tensor.dtype}, which is not converted.")
    planned = [
        PlannedTensor(name, stored[name].shape, stored[name].dtype, (name,), Keep())
        for name in sorted(stored, key=file_order)
    ]
    return source, UntypedModel(_keys(headers[0]), {}, planned, None), headers[0]


def stored_rows(headers: Sequence[Header]) -> StoredRows:
    """The tensors of a GGUF by the headers of all its files, as they are stored."""
    stored = {
        info.name: SourceTensor(info.name, info.type_name, info.shape[::-1], header.path.name, info.offset)
        for header in headers
        for info in header.tensors
    }
    return StoredRows(LocalFiles(headers[0].path.parent), stored)


def _keys(header: Header) -> Keys:
    """The keys with their types, as their bytes stand in the file; without those that follow from the conversion."""
    keys = {}
    with header.path.open("rb") as file:
        for name, (start, end) in header.spans.items():
            if name in _MADE_ANEW or name.startswith("split."):
                continue
            file.seek(start)
            raw = file.read(end - start)
            keys[name] = KeyValue(int(struct.unpack_from("<i", raw)[0]), header.metadata[name], raw=raw)
    return keys


def remarks(model: UntypedModel) -> Iterator[str]:
    """What to tell about a model that comes from a GGUF."""
    types = sorted({tensor.dtype for tensor in model.tensors if tensor.dtype in BLOCKS})
    if types:
        yield (
            f"the source is quantized already ({', '.join(types)}): what it lost stays lost, and more is lost now; "
            "convert the original checkpoint where you can"
        )
    yield "the vocabulary is that of the source; there is no other tokenizer to compare it with"
