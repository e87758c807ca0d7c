"""The three-line API: a name becomes a file, a plan or a loaded model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from localllm import library
from localllm.gguf_file import read_header
from localllm.runtime.model import Model
from localllm.runtime.options import OptionFields, Options
from localllm.runtime.plan import DEFAULT_CTX, make_plan
from localllm.runtime.types import Plan

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from localllm.convert import Conversion, FileProof, Prepared, Preview, Settings, Source
    from localllm.convert.fitting import Fit, Need
    from localllm.convert.writer import Progress
    from localllm.runtime.process import ModelProcess


def load(
    model: str | Path | None = None,
    options: Options | None = None,
    *,
    progress: Callable[[float], None] | None = None,
    **settings: Unpack[OptionFields],
) -> Model:
    """Load a model into this process.

    `model` is a path, a catalogue name, or the name of a model on this machine; None is the person's default model.
    That and the folders of models come from the settings of who runs the program; how it is loaded does not.
    `settings` are fields of `Options`, above those of `options`: `load("qwen3:0.6b", n_ctx=8192)`. `progress` is called
    with 0…1 while the file loads.

    Raises:
        ModelNotFound: nothing here has that name; says the nearest.
        BadSettings: the settings have a mistake.
        BadModelFile, UnsupportedModel: the file cannot be run.
        DoesNotFit: there is not enough memory; says the largest setting that fits.
        ValueError: a setting that no load could have.
    """
    path = _file(model)
    wanted = replace(options or Options(), **settings)
    return Model.load(path, wanted, progress=progress, settle=lambda options: library.as_recommended(path, options))


def load_process(
    model: str | Path | None = None,
    options: Options | None = None,
    *,
    progress: Callable[[float], None] | None = None,
    **settings: Unpack[OptionFields],
) -> ModelProcess:
    """Load a model into a child process, the only place for one that uses `options.workers`. Takes what `load` takes.

    Raises:
        ModelNotFound, BadModelFile, UnsupportedModel, DoesNotFit, ValueError: as `load`.
        BadWorker, MissingPackage: a worker cannot be used.
        EngineDied: the process ended while loading.
    """
    from localllm.runtime.process import ModelProcess

    path = _file(model)
    return ModelProcess.load(path, _options(path, options, settings), progress=progress)


def plan(model: str | Path | None = None, options: Options | None = None, **settings: Unpack[OptionFields]) -> Plan:
    """What `model` would use on each device, in bytes, without loading it. Takes and raises what `load` does.

    Raises:
        BadWorker, MissingPackage: a worker cannot be used.
    """
    from localllm.runtime import apart

    return apart.plan(_file(model), replace(options or Options(), **settings))


def pull(
    name: str,
    *,
    type: str | None = None,
    sha256: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    remark: Callable[[str], None] | None = None,
) -> Path:
    """Bring a model to this machine, unless it is here; returns the file to load.

    `name` is a name of the catalogue, `org/repo`, `org/repo:Q4_K_M` or `org/repo/file.gguf` of the hub, or the address
    of a GGUF file. A repo that holds a checkpoint and no GGUF files, or any with `type`, is converted while it is
    downloaded. `progress` is called with what is done and all there is, in bytes, or in weights of a checkpoint;
    `remark` hears what is waited for. Interrupted or killed, the same call goes on with what has arrived.
    `sha256` is the hash that the file at an address must have, in hexadecimal digits.

    Raises:
        ModelNotFound: there is no such model; says the nearest, or the choices.
        DownloadFailed: the hub or server cannot be reached, refuses or gives no access, or a file has another hash.
        BadModelFile: what arrived is no GGUF; it is removed.
        BadOutput: the disk has not enough room, or fails.
        BadCheckpoint, UnsupportedModel: the checkpoint cannot be converted.
        MissingPackage: the extra `hub` is not installed.
    """
    from localllm.library import pulling

    found = pulling.look_up(name, type=type, sha256=sha256, remark=remark)
    return found.fetch(progress or (lambda _done, _total: None)).path


def convert_model(
    source: Source,
    outfile: str | Path | None = None,
    *,
    type: str | None = None,
    settings: Settings | None = None,
    keep_download: bool = False,
    force: bool = False,
    resume: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
    announce: Callable[[Preview, Path], None] | None = None,
    remark: Callable[[str], None] | None = None,
) -> Conversion:
    """Convert a checkpoint to a GGUF: a folder, or a repo of the hub, `org/name` or `org/name@revision`.

    A folder of that name goes before the repo. A repo is read while it is converted and not kept, unless
    `keep_download` puts it in the hub's cache. The rest is as in `localllm.convert.convert`.

    Raises:
        DownloadFailed: the hub cannot be reached, or gives no access.
        MissingPackage: the extra `hub` is not installed.
        LocalLLMError: as `localllm.convert.convert`.
    """
    from localllm.convert import convert

    place = library.open_source(source, keep_download=keep_download, remark=remark)
    return convert(
        place,
        outfile,
        type=type,
        settings=settings,
        force=force,
        resume=resume,
        threads=threads,
        progress=progress,
        announce=announce,
        remark=remark,
    )


def verify_model(
    model: str | Path,
    against: Source | None = None,
    *,
    imatrix: str | Path | None = None,
    hash_source: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
) -> FileProof:
    """Check the GGUF `model` by itself and, with `against`, that it is the model in a checkpoint or another GGUF.

    `model` is named as in `load`, `against` as the source in `convert_model`: a repo of the hub is read once, and not
    kept. The rest is as in `localllm.convert.verify_file`.

    Raises:
        DownloadFailed: the hub cannot be reached, or gives no access.
        LocalLLMError: as `localllm.convert.verify_file`.
    """
    from localllm.convert import verify_file

    place = None if against is None else library.open_source(against)
    return verify_file(
        _file(model), place, imatrix=imatrix, hash_source=hash_source, threads=threads, progress=progress
    )


def fit(source: Source, budget: int, *, n_ctx: int = 0, kv_type: str = "f16", settings: Settings | None = None) -> Fit:
    """The best quantization type in which the checkpoint `source` runs in `budget` bytes: weights, KV cache, compute.

    `source` is a folder or a repo of the hub. `n_ctx` 0 is the context that a load chooses where memory is plenty.
    `settings` are those of the conversion; their type does not count. Writes nothing.

    Raises:
        DoesNotFit: not even the smallest type fits.
        ModelNotFound, BadCheckpoint, UnsupportedModel: the checkpoint cannot be converted.
    """
    from localllm.convert import prepare

    with prepare(library.open_source(source), "BF16", settings) as prepared:
        return fit_prepared(prepared, budget, n_ctx=n_ctx, kv_type=kv_type)


def fit_prepared(prepared: Prepared, budget: int, *, n_ctx: int = 0, kv_type: str = "f16") -> Fit:
    """`fit` for a conversion that is prepared, with its settings. Raises DoesNotFit as well."""
    from localllm.convert.fitting import best_fit

    return best_fit(prepared, budget, lambda path: _need(path, n_ctx, kv_type))


def _need(path: Path, n_ctx: int, kv_type: str) -> Need:
    from localllm.convert.fitting import Need

    n_ctx = n_ctx or min(read_header(path).context_length or DEFAULT_CTX, DEFAULT_CTX)
    plan = make_plan(path, Options(n_ctx=n_ctx, gpu_layers=0, kv_type=kv_type))
    return Need(plan.total, plan.n_ctx, plan.exact)


def _options(path: Path, options: Options | None, settings: OptionFields) -> Options:
    return library.as_recommended(path, replace(options or Options(), **settings))


def _file(model: str | Path | None) -> Path:
    return model if isinstance(model, Path) else library.resolve(model)
