"""Importance matrices as llama-imatrix writes them, of random numbers."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from localllm.convert.header import KeyValue, lay_out, text, texts, u32
from localllm.gguf_file import read_header

Floats = npt.NDArray[np.float32]
Measured = dict[str, tuple[Floats, Floats]]
"""By name of a matrix the sums of squares (experts, columns) and the counts (experts)."""


def measured(model: Path, seed: int = 3) -> Measured:
    """What llama-imatrix could have measured on a model: every matrix but the embeddings."""
    generator = np.random.default_rng(seed)
    found: Measured = {}
    for tensor in read_header(model).tensors:
        if len(tensor.shape) > 1 and tensor.name != "token_embd.weight" and not tensor.name.endswith("inp.weight"):
            experts = tensor.shape[2] if len(tensor.shape) > 2 else 1
            sums = generator.gamma(0.5, 20, (experts, tensor.shape[0])).astype(np.float32)
            found[tensor.name] = sums, generator.integers(3, 900, experts).astype(np.float32)
    return found


def write_gguf(path: Path, entries: Measured, **changes: KeyValue) -> Path:
    keys = {
        "general.type": text("imatrix"),
        "imatrix.datasets": texts(["wiki.train.raw"]),
        "imatrix.chunk_count": u32(17),
        "imatrix.chunk_size": u32(512),
    }
    arrays = {f"{name}.in_sum2": sums for name, (sums, _) in entries.items()}
    arrays |= {f"{name}.counts": counts[:, None] for name, (_, counts) in entries.items()}
    layout = lay_out(keys | changes, [(name, array.shape[::-1], "F32") for name, array in arrays.items()])
    content = bytearray(layout.file_bytes)
    content[: len(layout.header)] = layout.header
    for entry in layout.entries:
        content[entry.offset : entry.offset + entry.n_bytes] = arrays[entry.name].astype("<f4").tobytes()
    path.write_bytes(content)
    return path


def write_older(path: Path, entries: Measured, calls: int = 5) -> Path:
    parts = [struct.pack("<i", len(entries))]
    for name, (sums, _) in entries.items():
        parts.append(struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, sums.size))
        parts.append(sums.astype("<f4").tobytes())
    dataset = b"calibration.txt"
    path.write_bytes(b"".join([*parts, struct.pack("<ii", 17, len(dataset)), dataset]))
    return path


def importance(entries: Measured) -> Mapping[str, Floats]:
    """As llama-quantize hands it to llama.cpp's quantizer."""
    values = {}
    for name, (sums, counts) in entries.items():
        used = np.where(counts > 0, counts, 1)[:, None].astype(np.float32)
        values[name] = np.where(counts[:, None] > 0, sums / used, np.float32(1)).astype(np.float32).ravel()
    return values
