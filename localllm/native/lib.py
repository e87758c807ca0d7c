"""Loads libllama once: the bindings and the ggml libraries beside it; and what a call into them needs around it."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import ctypes
import functools
import importlib
import importlib.util
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from localllm.errors import EngineDied, MissingPackage
from localllm.native import log

T = TypeVar("T")

_lock = threading.RLock()
_computed = False  # something was, by this process or the one that it was forked from
_left_behind = False  # this process was forked from one that had computed


MOST_SPINNING_CPUS = 32
"""CPUs up to which `spin` switches how threads wait: it takes about as many sleeping threads as there are CPUs."""


@functools.cache
def llama() -> Any:
    """The low-level bindings (`llama_cpp.llama_cpp`), with the backend started and the log routed.

    Importing the package would also import its `Llama` class with all it needs, so only the module with the bindings
    is loaded; a later `import llama_cpp` elsewhere still works.

    Raises:
        MissingPackage: llama-cpp-python is not installed, or its library does not load.
    """
    with _lock:
        bindings = _import_bindings()
        bindings.llama_log_set(_log_callback(bindings), ctypes.c_void_p(0))
        bindings.llama_backend_init()
        atexit.register(_detach_log, bindings)
        return bindings


def _import_bindings() -> Any:
    if "llama_cpp" in sys.modules:
        return importlib.import_module("llama_cpp.llama_cpp")
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.submodule_search_locations is None:
        raise MissingPackage(
            "llama-cpp-python is not installed.",
            hint="Run `pip install llama-cpp-python`, or `tools/install` in a checkout.",
        )
    bare = types.ModuleType("llama_cpp")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["llama_cpp"] = bare
    try:
        with _spin_counts():
            return importlib.import_module("llama_cpp.llama_cpp")
    except (OSError, RuntimeError) as error:
        raise MissingPackage(
            f"The library of llama-cpp-python does not load: {error}",
            hint="It was built for another machine or is incomplete; build it again with `tools/install --rebuild`.",
        ) from error
    finally:
        del sys.modules["llama_cpp"]


def spin_switches() -> bool:
    """Whether `spin` can switch: the kernel tells who waits for a core, and it takes not too many threads to do so."""
    return Path("/proc/self/schedstat").exists() and len(os.sched_getaffinity(0)) <= MOST_SPINNING_CPUS


@contextlib.contextmanager
def _spin_counts() -> Iterator[None]:
    """Load OpenMP with two spin counts, between which `spin` switches, unless somebody chose how threads wait.

    libgomp reads the variables once, when it is loaded. Where `spin_switches` says no, threads always spin briefly.
    """
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    if any(name in os.environ for name in names):
        yield
        return
    # "active" makes the short count 1,000 instead of 100; the long one is libgomp's own default.
    chosen = ("active", "300000") if spin_switches() else ("", "1000")
    os.environ.update({name: value for name, value in zip(names, chosen, strict=True) if value})
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


@functools.cache
def ggml(name: str) -> ctypes.CDLL:
    """The ggml library of that name that libllama itself uses: `ggml`, `ggml-base`, `ggml-rpc`.

    A wheel holds no links, so `libggml.so` and `libggml.so.0` are two files; loading the other one would give a second
    registry of devices that libllama never looks at.

    Raises:
        FileNotFoundError: this build has no such library.
    """
    folder = Path(llama()._base_path)
    files = sorted(path for path in folder.glob(f"*{name}.*") if path.name.removeprefix("lib").split(".")[0] == name)
    no_load = getattr(os, "RTLD_NOLOAD", None)
    if no_load is not None:
        for path in files:
            with contextlib.suppress(OSError):
                return ctypes.CDLL(str(path), mode=os.RTLD_NOW | no_load)
    if not files:
        raise FileNotFoundError(f"lib{name} is not in {folder}")
    return ctypes.CDLL(str(files[0]))


def bind(library: ctypes.CDLL, name: str, restype: Any, *argtypes: Any) -> Any:
    """One C function of `library` with its types set; a missing symbol raises `AttributeError`."""
    function = library[name]
    function.restype = restype
    function.argtypes = list(argtypes)
    return function


@functools.cache
def _log_callback(bindings: Any) -> Any:
    @bindings.llama_log_callback  # type: ignore[untyped-decorator]
    def callback(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
        log.heard(level, text.decode("utf-8", "replace"))

    return callback


def _detach_log(bindings: Any) -> None:
    # A native log line after Python is gone would call into freed memory.
    log.set_log(None)
    silent = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p)
    bindings._lib["llama_log_set"](silent, ctypes.c_void_p(0))


@functools.cache
def build() -> str:
    """Which llama.cpp this is: the release of the bindings, ggml's own and its commit."""
    import importlib.metadata

    release = importlib.metadata.version("llama-cpp-python")
    names = [bind(ggml("ggml-base"), name, ctypes.c_char_p)().decode() for name in ("ggml_version", "ggml_commit")]
    return f"llama-cpp-python {release}, ggml {' '.join(names)}"


def apart(
    work: Callable[[], T],
    stop: Callable[[], None] = lambda: None,
    discard: Callable[[T], None] = lambda _: None,
    meanwhile: Callable[[], None] | None = None,
) -> T:
    """The result of `work`, done where Ctrl-C does not come: in a thread of its own if this is the main thread.

    Python delivers Ctrl-C to the main thread wherever it is; inside a callback from C nobody can catch it and it is
    lost. When it arrives here, `stop` is called, `work` is awaited, what it still made is given to `discard`, and
    Ctrl-C is raised again. `meanwhile` is done by the caller's thread, beside it; an error in it ends the work as
    Ctrl-C does. What llama.cpp logs in `work` counts as logged in the caller's thread.
    """
    if meanwhile is None and threading.current_thread() is not threading.main_thread():
        return work()
    results: list[T] = []
    failures: list[BaseException] = []
    mine, context = log.of_this_thread(), contextvars.copy_context()

    def run() -> None:
        try:
            results.append(context.run(log.counted_for, mine, work))
        except BaseException as error:  # raised again below
            failures.append(error)

    thread = threading.Thread(target=run, name="llama.cpp")
    thread.start()
    try:
        if meanwhile is not None:
            meanwhile()
        thread.join()
    except BaseException:  # Ctrl-C, or what is done meanwhile failed
        stop()
        thread.join()
        for made in results:
            discard(made)
        raise
    if failures:
        raise failures.pop()  # out of the list, which its traceback leads to
    return results[0]


def give_memory_back() -> None:
    """Let the C library return to the system what was freed: glibc keeps it for itself, some MiB for each load."""
    with contextlib.suppress(AttributeError, OSError):  # other C libraries do not keep it, or do not say how
        ctypes.CDLL(None).malloc_trim(0)


def check_not_forked() -> None:
    """To be called before something is computed: OpenMP waits without end for threads that a fork left behind.

    Raises:
        EngineDied: this process was forked from one that had computed before.
    """
    global _computed
    _computed = True
    if _left_behind:
        raise EngineDied(
            "This process was forked from one in which llama.cpp computes; the threads that compute are not in it.",
            hint='Use localllm.load_process, or start the process with the method "spawn" of multiprocessing.',
        )


def _forked() -> None:
    global _left_behind
    _left_behind = _computed


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def listen() -> None:
    """Take the log back from whoever took it, and empty `log.recent_problems()`: before each load."""
    bindings = llama()
    bindings.llama_log_set(_log_callback(bindings), ctypes.c_void_p(0))
    log.forget_problems()
