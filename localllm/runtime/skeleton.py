"""A model file without its vocabulary, for loads that are only simulated: what is allocated does not depend on it.

Of a simulated load, the vocabulary takes nearly all the time: half a second for 262,000 tokens.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localllm.gguf_file import Array, Header

# Types of values, from the GGUF specification.
_UINT32, _STRING = 4, 8


@contextmanager
def skeleton(header: Header) -> Iterator[Path]:
    """The path of a file in memory with the header of the model's but for its vocabulary, and a hole for the weights.

    It is the model's own path where there are no files in memory, and for a model that is in several files.
    """
    tokens = header.get("tokenizer.ggml.tokens")
    if not hasattr(os, "memfd_create") or not isinstance(tokens, Array) or "split.count" in header.metadata:
        yield header.path
        return
    head = _head(header, len(tokens))
    file = os.memfd_create("skeleton", os.MFD_CLOEXEC)
    try:
        with open(file, "wb", closefd=False) as stream:
            stream.write(head)
        os.truncate(file, len(head) + header.file_bytes - header.data_offset)
        yield Path(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def _head(header: Header, tokens: int) -> bytes:
    """The header with that many tokens that have no text."""
    with header.path.open("rb") as file:
        raw = file.read(header.data_offset)
    values = {
        key: raw[start:end]
        for key, (start, end) in header.spans.items()
        if not (key.startswith("tokenizer.") and isinstance(header.metadata[key], Array))
    }
    values["tokenizer.ggml.model"] = struct.pack("<i", _STRING) + _text("none")
    values[f"{header.architecture}.vocab_size"] = struct.pack("<iI", _UINT32, tokens)
    keys = b"".join(_text(key) + value for key, value in values.items())
    entries = raw[max(end for _, end in header.spans.values()) :]  # of the tensors, and what aligns the first of them
    filler = _text("localllm.filler") + struct.pack("<i", _STRING)
    size = 24 + len(keys) + len(filler) + 8 + len(entries)
    keys += filler + _text("." * (-size % header.alignment))
    return b"GGUF" + struct.pack("<Iqq", header.version, len(header.tensors), len(values) + 1) + keys + entries


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
