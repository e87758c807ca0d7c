"""What `localllm tune` found to be fastest, kept per model and machine, and put where a setting was left open.

One small file of JSON for each model file, machine and build of llama.cpp: what was measured with another of them says
nothing. A file that cannot be read is as good as none.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from localllm import paths, small_files
from localllm.counts import counted
from localllm.errors import BadOutput
from localllm.native import devices, lib, machine
from localllm.runtime.options import DEFAULT_KV_TYPE, DEFAULT_UBATCH, WIDE_KV_TYPES, Options

_NOTE = "Tuned for this machine: "


@dataclass(frozen=True)
class Choice:
    """The settings that were fastest.

    Raises:
        ValueError: no load could have them.
    """

    threads: int
    flash_attention: bool
    kv_type: str
    n_ubatch: int
    draft: str = field(default="", compare=False)  # it is decided when the others are

    def __post_init__(self) -> None:
        counts = (self.threads, self.n_ubatch)
        if any(type(count) is not int or count < 1 for count in counts) or type(self.flash_attention) is not bool:
            raise ValueError("threads and ubatch are counts, and flash attention is on or off")
        if self.draft not in ("", "ngram"):
            raise ValueError("text that repeats drafts, or nobody does")
        if self.kv_type == "auto":
            raise ValueError("the type of the KV cache is open")
        Options(
            threads=self.threads,
            flash_attention=self.flash_attention,
            kv_type=self.kv_type,
            n_batch=self.n_ubatch,
            n_ubatch=self.n_ubatch,
        )

    def __str__(self) -> str:
        attention = "on" if self.flash_attention else "off"
        drafting = ", drafts by n-grams" if self.draft == "ngram" else ""
        threads = counted(self.threads, "thread")
        return f"{threads}, flash attention {attention}, KV cache {self.kv_type}, ubatches of {self.n_ubatch}{drafting}"


def settle(path: Path, options: Options) -> tuple[Options, tuple[str, ...]]:
    """`options` with no speed setting left open, and a note if one comes from `tune`.

    A setting that was asked for stays, and what was tuned gives way where it does not go with it.
    """
    choice = find(path, options) if options.tuned else None
    settled = replace(options, **_filled(options, choice))
    changed = choice is not None and settled != replace(options, **_filled(options, None))
    return settled, (f"{_NOTE}{choice} (--no-tuned leaves that out, tuned=False in Python).",) if changed else ()


def is_told_by(note: str) -> bool:
    """Whether a note of a plan only says that what was tuned is used, which is no news to who tuned it."""
    return note.startswith(_NOTE)


def _filled(options: Options, choice: Choice | None) -> dict[str, Any]:
    attention, kv_type = options.flash_attention, options.kv_type
    if choice is not None:
        if attention is None and (choice.flash_attention or kv_type == "auto" or _is_wide(kv_type)):
            attention = choice.flash_attention
        if kv_type == "auto" and (attention is not False or _is_wide(choice.kv_type)):
            kv_type = choice.kv_type
    return {
        "threads": options.threads or (choice.threads if choice else machine.usable_threads()),
        "flash_attention": attention,
        "kv_type": DEFAULT_KV_TYPE if kv_type == "auto" else kv_type,
        "draft": options.draft or (choice.draft if choice else ""),
        "n_ubatch": min(options.n_ubatch or (choice.n_ubatch if choice else DEFAULT_UBATCH), options.n_batch),
    }


def _is_wide(kv_type: str) -> bool:
    """Whether V goes without flash attention."""
    return kv_type.rpartition("/")[2] in WIDE_KV_TYPES


def find(path: Path, options: Options) -> Choice | None:
    """What was stored for a load of `path` with these options; None where workers take part, whom nobody timed."""
    if options.workers or not _files(path):  # to ask which build this is takes as long as to import the runtime
        return None
    try:
        stored = json.loads(file_of(path, options).read_text(encoding="utf-8"))
        return Choice(**stored["choice"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def store(path: Path, options: Options, choice: Choice, measured: dict[str, Any]) -> Path:
    """Keep a choice, and what was measured for it for people to read. Returns the file.

    Raises:
        BadOutput: it cannot be written.
    """
    target = file_of(path, options)
    document = {"model": _place(path), "machine": _machine(options), "choice": asdict(choice), "measured": measured}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        small_files.replace(target, (json.dumps(document, indent=1) + "\n").encode())
    except OSError as error:
        raise BadOutput(
            f"What was found cannot be kept in {target}: {error.strerror}.",
            hint="Give the settings as flags, or set LOCALLLM_HOME to a folder that can be written.",
        ) from error
    for file in _files(path):
        if file != target and file.name.endswith(target.name.rpartition("-")[2]):
            with contextlib.suppress(OSError):  # of the model as it was before
                file.unlink()
    return target


def forget(path: Path) -> int:
    """Remove what was stored for `path`, for any machine and any state of the file. Returns how many.

    Raises:
        BadOutput: one cannot be removed.
    """
    files = _files(path)
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise BadOutput(f"{file} cannot be removed: {error.strerror}.") from error
    return len(files)


def _files(path: Path) -> list[Path]:
    files = list(paths.tuned_dir().glob("*.json"))
    prefix = f"{_digest(_place(path))}-" if files else ""
    return [file for file in files if file.name.startswith(prefix)]


def file_of(path: Path, options: Options) -> Path:
    """Where a choice for this load is kept, whether there is one or not."""
    status = path.stat()
    content = f"{status.st_size} {status.st_mtime_ns}"
    return paths.tuned_dir() / f"{_digest(_place(path))}-{_digest(content)}-{_digest(_machine(options))}.json"


def _machine(options: Options) -> str:
    """What a choice is good for beside the file: the processor and what of it may be used, the GPUs, the build."""
    present, limits = devices.devices(), machine.limits()
    names = ", ".join(device.description or device.name for device in present)
    gpus = devices.offload_devices(present)
    layers = f"{'auto' if options.gpu_layers is None else options.gpu_layers} layers" if gpus else "no GPU"
    return f"{names}; {limits.physical_cores} cores, quota {limits.cpu_quota}; {layers}; {lib.build()}"


def _place(path: Path) -> str:
    return str(path.resolve())


def _digest(text: str) -> str:
    import hashlib  # takes longer than to see that nothing was tuned

    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]
