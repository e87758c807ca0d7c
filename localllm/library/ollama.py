"""What Ollama has on this machine: `manifests/HOST/NAMESPACE/MODEL/TAG` names the layers, `blobs/` holds them.

Layout: `manifest/` and `types/model/` of Ollama. Newer versions write `manifests-v2` first, whose files are links to
blobs, and a manifest may list others for its several runners. Reads manifests only.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from localllm import paths, small_files
from localllm.library.stored import Stored, is_there

_MODEL = "application/vnd.ollama.image.model"
_ADAPTER = "application/vnd.ollama.image.adapter"
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_TREES = ("manifests-v2", "manifests")
_HOSTS = ("registry.ollama.ai", "ollama.com")
_RUNNERS = ("ollama", "llamacpp")
_LATEST = "latest"


def folders() -> list[Path]:
    """Where the models are: `OLLAMA_MODELS`, else below the home folder, and on Linux that of Ollama's own service."""
    override = os.environ.get("OLLAMA_MODELS")
    if override:
        return [paths.expanded(override)]
    service = [Path("/usr/share/ollama/.ollama/models")] if sys.platform == "linux" else []
    return [paths.expanded("~/.ollama/models"), *service]


def read(folder: Path) -> Iterator[Stored]:
    """The models with a GGUF, each under the name by which Ollama lists it."""
    seen: set[str] = set()
    for tree in _TREES:
        for manifest in _manifests(folder / tree):
            name = _name(*manifest.relative_to(folder / tree).parts)
            if name not in seen and not manifest.name.startswith("."):
                seen.add(name)
                yield from _model(folder, name, small_files.read_json(manifest))


def _manifests(tree: Path) -> list[Path]:
    """The manifests in a tree; none where it may not be looked at, as that of Ollama's service on many machines."""
    try:
        return sorted(tree.glob("*/*/*/*"))
    except OSError:
        return []


def blobs(sha256: str) -> Iterator[Path]:
    """The layer with this SHA-256, a model's or another. What Ollama still downloads has another name."""
    if _DIGEST.fullmatch(f"sha256:{sha256}"):
        candidates = (folder / "blobs" / f"sha256-{sha256.lower()}" for folder in folders())
        yield from (path for path in candidates if is_there(path))


def full_name(name: str) -> str:
    """The name with its tag, as `read` gives it: `llama3.2` is `llama3.2:latest`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:{_LATEST}"


def _name(host: str, namespace: str, model: str, tag: str) -> str:
    own = host in _HOSTS
    start = [] if own and namespace == "library" else [namespace] if own else [host, namespace]
    return "/".join([*start, f"{model}:{tag}"])


def _model(folder: Path, name: str, manifest: dict[str, Any]) -> Iterator[Stored]:
    layers = _layers(folder, manifest)
    for layer in layers:
        digest = _digest(layer)
        if layer.get("mediaType") == _MODEL and digest:
            path = folder / "blobs" / f"sha256-{digest}"
            # A blob of another size is damaged, or is being replaced.
            if is_there(path) and path.stat().st_size == layer.get("size"):
                adapted = any(other.get("mediaType") == _ADAPTER for other in layers)
                remark = "Ollama adds a LoRA adapter to it, which is not used here" if adapted else ""
                yield Stored("ollama", folder, path, (path,), name=name, sha256=digest, remark=remark)
            return


def _layers(folder: Path, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers of a manifest; of one that lists others, those of the first whose runner is llama.cpp's."""
    children = [child for child in _dicts(manifest.get("manifests")) if child.get("runner") in _RUNNERS]
    children.sort(key=lambda child: _RUNNERS.index(child["runner"]))
    for child in children:
        digest = _digest(child)
        if "layers" not in child and digest:
            child = small_files.read_json(folder / "blobs" / f"sha256-{digest}")
        layers = _dicts(child.get("layers"))
        if any(layer.get("mediaType") == _MODEL for layer in layers):
            return layers
    return _dicts(manifest.get("layers"))


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _digest(layer: dict[str, Any]) -> str:
    found = _DIGEST.fullmatch(str(layer.get("digest", "")))
    return found[1].lower() if found else ""
