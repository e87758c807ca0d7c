"""The cache of the Hugging Face hub on this machine, which llama.cpp fills too, and the older cache of llama.cpp.

Layouts: `models--ORG--NAME/` with `refs/`, `blobs/HASH` and `snapshots/COMMIT/FILE`, links to the blobs, as
`huggingface_hub` documents them; `common/hf-cache.cpp` of llama.cpp writes the same, and what it wrote before is
`ORG_NAME_FILE` beside `manifest=ORG=NAME=TAG.json` in one folder. Needs no `huggingface_hub`, which may not be
installed where llama.cpp is.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from localllm import paths, small_files
from localllm.library import filenames
from localllm.library.stored import Stored, is_there, models_in, names_in, stored_file

_PREFIX = "models--"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MANIFEST = re.compile(r"manifest=(?P<owner>[^=]+)=(?P<name>[^=]+)=[^=]*\.json")


def folder() -> Path:
    """Where the cache is: `huggingface_hub` knows, else the variables of the environment that it would read."""
    if importlib.util.find_spec("huggingface_hub") is not None:
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE)
    for variable, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if os.environ.get(variable):
            return paths.expanded(Path(os.environ[variable], below))
    return _cache_home() / "huggingface" / "hub"


def llama_cpp_folders() -> list[Path]:
    """Where llama.cpp keeps what it downloads, beside the cache of the hub."""
    override = os.environ.get("LLAMA_CACHE")
    if override:
        return [Path(override)]
    if sys.platform == "darwin":
        return [paths.expanded("~/Library/Caches/llama.cpp")]
    return [_cache_home() / "llama.cpp"]


def read(cache: Path, kind: str = "hub") -> Iterator[Stored]:
    """The models in a cache. Of a file in several snapshots that of `main` counts, else the newest."""
    for repo_folder in _repos(cache):
        repo = repo_folder.name[len(_PREFIX) :].replace("--", "/")
        seen: set[str] = set()
        for snapshot in _snapshots(repo_folder):
            for path in models_in(snapshot):
                file = path.relative_to(snapshot).as_posix()
                if file not in seen:
                    seen.add(file)
                    yield stored_file(kind, cache, path, repo=repo, file=file, sha256=_hash_of(path))


def read_llama_cpp(cache: Path) -> Iterator[Stored]:
    """The models in llama.cpp's own cache, in the layout of today, when it is told to use a folder, and of before."""
    yield from read(cache, "llama.cpp")
    manifests = [found for name in names_in(cache) if (found := _MANIFEST.fullmatch(name))]
    repos = {f"{found['owner']}_{found['name']}_": f"{found['owner']}/{found['name']}" for found in manifests}
    for name in names_in(cache):
        path = cache / name
        if filenames.is_model(name) and filenames.part_of(name)[0] == 1 and is_there(path):
            prefix = max((prefix for prefix in repos if name.startswith(prefix)), key=len, default="")
            yield stored_file("llama.cpp", cache, path, repo=repos.get(prefix, ""), file=name[len(prefix) :])


def is_in_snapshot(model: Stored) -> bool:
    """Whether a model is held as a file of a repo, in the layout of the hub's cache."""
    return model.kind in ("hub", "llama.cpp") and model.path.is_relative_to(_repo_folder(model) / "snapshots")


def _repo_folder(model: Stored) -> Path:
    return model.folder / f"{_PREFIX}{model.repo.replace('/', '--')}"


def blobs(sha256: str) -> Iterator[Path]:
    """The files that the caches keep under this SHA-256: large files of the hub have it for a name."""
    if _SHA256.fullmatch(sha256):
        for cache in (folder(), *llama_cpp_folders()):
            candidates = (repo / "blobs" / sha256 for repo in _repos(cache))
            yield from (path for path in candidates if is_there(path))


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or paths.expanded("~/.cache"))


def _repos(cache: Path) -> list[Path]:
    return [cache / name for name in names_in(cache) if name.startswith(_PREFIX)]


def _snapshots(repo: Path) -> list[Path]:
    """The snapshots of a repo, the one to use first."""
    refs = [
        small_files.read_line(repo / "refs" / name)
        for name in sorted(names_in(repo / "refs"), key=lambda ref: ref != "main")
    ]
    rest = [repo / "snapshots" / name for name in names_in(repo / "snapshots") if name not in refs]
    rest.sort(key=_changed, reverse=True)
    return [repo / "snapshots" / commit for commit in dict.fromkeys(refs) if commit] + rest


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it went away meanwhile
        return 0


def _hash_of(path: Path) -> str:
    """The name of the blob that a file in a snapshot is a link to, if that is a SHA-256."""
    try:
        blob = path.readlink().name
    except OSError:
        return ""
    return blob if _SHA256.fullmatch(blob) else ""
