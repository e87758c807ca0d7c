"""The stores of other programs, made by their own layouts, around small GGUF files that are real."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from localllm.convert.header import KeyValue, lay_out, text, texts, u32

OLLAMA_MODEL = "application/vnd.ollama.image.model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def gguf(name: str = "tiny", /, **keys: KeyValue) -> bytes:
    """A whole GGUF of two layers; other names make other bytes."""
    metadata = {
        "general.architecture": text("llama"),
        "general.name": text(name),
        "general.file_type": u32(15),
        "general.license": text("apache-2.0"),
        "llama.block_count": u32(2),
        "llama.context_length": u32(4096),
        "llama.embedding_length": u32(256),
        "llama.attention.head_count": u32(4),
        "llama.attention.head_count_kv": u32(2),
        "tokenizer.ggml.model": text("gpt2"),
        "tokenizer.ggml.tokens": texts(["<s>", "é", "🚀"]),
        "tokenizer.chat_template": text("{{ messages }}"),
        **{key.replace("__", "."): value for key, value in keys.items()},
    }
    layout = lay_out(metadata, [("token_embd.weight", (256, 3), "Q4_K"), ("output_norm.weight", (256,), "F32")])
    return layout.header + bytes(layout.file_bytes - len(layout.header))


def put(path: Path, content: bytes | None = None) -> Path:
    """A file with its folders; a small model unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gguf(path.stem) if content is None else content)
    return path


def put_ollama(folder: Path, name: str, content: bytes, *, tree: str = "manifests", **layers: bytes) -> Path:
    """A model of Ollama's, `MODEL:TAG` or `HOST/NAMESPACE/MODEL:TAG`, with other layers by their kind; its blob."""
    model, _, tag = name.rpartition(":")
    place = model if "/" in model else f"registry.ollama.ai/library/{model}"
    digests = {OLLAMA_MODEL: content} | {f"application/vnd.ollama.image.{kind}": data for kind, data in layers.items()}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": ollama_layer(folder, "application/vnd.docker.container.image.v1+json", b"{}"),
        "layers": [ollama_layer(folder, kind, data) for kind, data in digests.items()],
    }
    put(folder / tree / place / tag, json.dumps(manifest).encode())
    return ollama_blob(folder, content)


def ollama_blob(folder: Path, content: bytes) -> Path:
    """Where the store keeps these bytes."""
    return folder / "blobs" / f"sha256-{hashlib.sha256(content).hexdigest()}"


def ollama_layer(folder: Path, kind: str, content: bytes) -> dict[str, Any]:
    """A layer as a manifest names it, with its blob."""
    blob = put(ollama_blob(folder, content), content)
    return {"mediaType": kind, "digest": blob.name.replace("-", ":", 1), "size": len(content)}


def put_hub(cache: Path, repo: str, file: str, content: bytes, *, commit: str = COMMIT, ref: str = "main") -> Path:
    """A file of a repo in the hub's cache: the link in the snapshot."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    blob = put(folder / "blobs" / hashlib.sha256(content).hexdigest(), content)
    if ref:
        put(folder / "refs" / ref, commit.encode())
    link = folder / "snapshots" / commit / file
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(Path(*[".."] * (2 + file.count("/")), "blobs", blob.name))
    return link
