"""all-MiniLM-L6-v2, a real encoder: what it makes of some sentences in transformers, kept in `minilm.json`.

`tools/make_sentence_embeddings.py` makes the file. It holds the token ids and the vector of each sentence, mean-pooled
and of length one, and for some types the SHA-256 of all tensors as llama.cpp's converter and quantizer write them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from localllm.gguf_file import read_header

FILE = Path(__file__).with_name("minilm.json")

SENTENCES = (
    "Hello",
    "A cat sits on the mat.",
    "Ein Satz mit Umlauten: Äpfel, Öl und übrige Dinge.",
    "What is the capital of France?",
    "Paris is the capital and the largest city of France.",
    "def add(a, b):\n    return a + b  # the sum of two numbers",
    "The quick brown fox jumps over the lazy dog, again and again, until nobody counts any more.",
    "In 1969, 3.6% of 1,234 people answered; the rest (96.4 %) did not — or so the record says.",
    "Unbelievably, antidisestablishmentarianism is tokenized into surprisingly many pieces by a small vocabulary.",
    " ".join(["A long text goes on, and its vector is the mean of what its tokens became."] * 12),
)


@dataclass(frozen=True)
class Sentence:
    """One sentence: its token ids, special ones included, and its vector (hidden,)."""

    text: str
    tokens: list[int]
    vector: npt.NDArray[np.float32]


def sentences() -> list[Sentence]:
    """All of them."""
    kept = json.loads(FILE.read_text("utf-8"))["sentences"]
    return [
        Sentence(one["text"], one["tokens"], np.frombuffer(base64.b64decode(one["vector"]), dtype="<f4"))
        for one in kept
    ]


def reference_digests() -> dict[str, str]:
    """By type, the digest of the file of the reference."""
    found: dict[str, str] = json.loads(FILE.read_text("utf-8"))["tensors"]
    return found


def tensors_digest(path: Path) -> str:
    """The SHA-256 over name, type, shape and bytes of each tensor of a GGUF, by name."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for tensor in sorted(read_header(path).tensors, key=lambda tensor: tensor.name):
            digest.update(f"{tensor.name} {tensor.type_name} {tensor.shape}".encode())
            file.seek(tensor.offset)
            digest.update(file.read(tensor.n_bytes))
    return digest.hexdigest()
