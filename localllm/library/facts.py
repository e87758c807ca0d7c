"""What the headers of the models on this machine say, in a few words each, remembered by path, size and time.

A list of hundreds of models opens only what is new or has changed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from localllm import paths, small_files
from localllm.errors import LocalLLMError
from localllm.gguf_file import Header, read_parts
from localllm.library.stored import Stored

_FORMAT = 2


@dataclass(frozen=True)
class Facts:
    """What a header says. `context` are the tokens it was trained with, `needed` about the bytes that a load takes.
    Without a `has_template` nobody can chat with it.

    0 and empty where the header does not say; `problem` says what is wrong with the file, and then the rest is empty.
    """

    architecture: str = ""
    quantization: str = ""
    parameters: int = 0
    context: int = 0
    needed: int = 0
    has_template: bool = False
    problem: str = ""


_TYPES = {field.name: {"int": int, "str": str, "bool": bool}[str(field.type)] for field in dataclasses.fields(Facts)}


def facts_of(models: Sequence[Stored], progress: Callable[[int, int], None] | None = None) -> list[Facts]:
    """What the header of each model says. `progress` hears how many of those that have to be read are done."""
    known = _remembered()
    keys = [os.path.realpath(model.path) for model in models]
    stamps = [_stamp(model) for model in models]
    fresh = {key: stamp for key, stamp in zip(keys, stamps, strict=True) if known.get(key, (None,))[0] != stamp}
    by_key = dict(zip(keys, models, strict=True))
    for done, (key, stamp) in enumerate(fresh.items(), start=1):
        known[key] = stamp, _read(by_key[key])
        if progress is not None:
            progress(done, len(fresh))
    if fresh:
        _remember({key: known[key] for key in fresh})
    return [known[key][1] for key in keys]


def _read(model: Stored) -> Facts:
    if not model.whole:
        return Facts(problem=f"{len(model.parts)} of its {model.count} parts are here")
    try:
        parts = read_parts(model.path)
        header = replace(parts[0], tensors=tuple(tensor for part in parts for tensor in part.tensors))
        return Facts(
            header.architecture,
            header.quantization,
            header.parameters,
            header.context_length,
            needed_by(header),
            bool(header.get("tokenizer.chat_template")),
        )
    except LocalLLMError as error:
        return Facts(problem=error.message.removeprefix(f"{model.path}").lstrip(": "))


def needed_by(header: Header) -> int:
    """About the bytes that a load takes with the usual context: the tensors in the header, a KV cache, compute.

    Raises:
        BadModelFile: the header contradicts itself.
    """
    from localllm.runtime.estimate import bytes_on_cpu
    from localllm.runtime.options import DEFAULT_UBATCH, Options
    from localllm.runtime.plan import DEFAULT_CTX

    n_ctx = min(header.context_length or DEFAULT_CTX, DEFAULT_CTX)
    return bytes_on_cpu(header, Options(n_ctx=n_ctx, kv_type="f16", n_ubatch=DEFAULT_UBATCH, gpu_layers=0))


def _stamp(model: Stored) -> list[int]:
    """What changes when a file does: the size of all parts, and the latest time."""
    times = [_changed(part) for part in model.parts]
    return [model.size, max(times), len(times)]


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # it went away meanwhile
        return 0


def _remembered() -> dict[str, tuple[Any, Facts]]:
    document = small_files.read_json(paths.headers_file())
    entries = document.get("files") if document.get("format") == _FORMAT else None
    if not isinstance(entries, dict):
        return {}
    return {key: (entry[0], Facts(**entry[1])) for key, entry in entries.items() if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    """Whether it is what we write: another program's, or a later version's, is as good as none."""
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], dict):
        return False
    fields: dict[str, object] = entry[1]
    return fields.keys() == _TYPES.keys() and all(type(fields[name]) is kind for name, kind in _TYPES.items())


def _remember(fresh: dict[str, tuple[Any, Facts]]) -> None:
    """Add to what is remembered, by other processes too, and forget files that are gone."""
    known = {key: entry for key, entry in _remembered().items() if key in fresh or Path(key).exists()}
    entries = {key: [stamp, asdict(facts)] for key, (stamp, facts) in {**known, **fresh}.items()}
    small_files.keep_json(paths.headers_file(), {"format": _FORMAT, "files": entries})
