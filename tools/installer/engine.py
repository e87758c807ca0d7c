"""llama-cpp-python: compiles it, shows how far it is, and checks that what came out is what was asked for."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

from . import processor
from .accelerator import Choice, install_command
from .environment import LOG, PYTHON, VENV, SetupError, requirement, site_packages
from .progress import run_logged, say

PREBUILT_INDEX = "https://abetlen.github.io/llama-cpp-python/whl/"
GPU_BACKENDS = ("cuda", "metal", "vulkan", "hip")

# libllama links OpenSSL for downloads of its own, which localllm does not use.
OPTIONS = ("-DGGML_RPC=ON", "-DLLAMA_OPENSSL=OFF")

_REMEDIES = (
    (r"No CMAKE_CXX?_COMPILER could be found|CMAKE_CXX?_COMPILER not set|Could not find compiler", "compiler"),
    (r"Could NOT find Vulkan|SPIRV-Headers|glslc", "vulkan"),
    (r"No CMAKE_CUDA_COMPILER could be found|Could not find nvcc|CUDA Toolkit not found", "cuda"),
)


def library_folder() -> Path | None:
    """The folder of the libraries of the installed llama-cpp-python, or None when it is not installed whole."""
    site = site_packages()
    folder = site / "llama_cpp" / "lib"
    whole = folder.is_dir() and any(site.glob("llama_cpp_python-*.dist-info/RECORD"))
    return folder if whole else None


def shortcoming(backend: str, *, prebuilt: bool) -> str:
    """What the installed llama-cpp-python lacks; empty when it is as asked for."""
    folder = library_folder()
    if folder is None:
        return "it is not installed"
    info = next(site_packages().glob("llama_cpp_python-*.dist-info"))
    version = info.name.removesuffix(".dist-info").split("-")[1]
    wanted_version = requirement("llama-cpp-python").removeprefix("llama-cpp-python")
    if not _satisfies(version, wanted_version):
        return f"{version} is installed and {wanted_version} is needed"
    # An upstream wheel has no RPC backend, and a build for more devices than asked for serves as well.
    wanted = ([] if prebuilt else ["rpc"]) + ([backend] if backend in GPU_BACKENDS else [])
    missing = [name.upper() for name in wanted if not list(folder.glob(f"libggml-{name}.*"))]
    return f"the one installed was built without {' and '.join(missing)}" if missing else ""


def _satisfies(version: str, wanted: str) -> bool:
    have = _numbers(version)
    compare = {">=": have.__ge__, "<": have.__lt__, "==": have.__eq__}
    limits = re.findall(r"(>=|==|<)\s*([\d.]+)", wanted)
    return all(compare[operator](_numbers(number)) for operator, number in limits)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def does_not_start() -> str:
    """Why the library does not start; empty when it does.

    A build made for another processor ends its process with SIGILL, so this is tried in one of its own.
    """
    folder = library_folder()
    libraries = [path for pattern in ("libllama.so", "libllama.dylib") for path in (folder or Path()).glob(pattern)]
    if not libraries:
        return "it has no libllama"
    code = "import ctypes, sys; l = ctypes.CDLL(sys.argv[1]); l.llama_backend_init(); l.llama_print_system_info()"
    done = subprocess.run([PYTHON, "-c", code, libraries[0]], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"it ends with signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or ["it does not start"])[-1]


def does_not_answer() -> str:
    """Why localllm does not compute two tokens with the default model; empty when it does.

    A library can start and still crash in a kernel that was compiled wrong for this processor.
    """
    command = [str(PYTHON), "-m", "localllm", "run", "Hello", "--max-tokens", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=VENV, check=False)
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"it ends with signal {-done.returncode}"
    return done.stderr.strip() or f"it ends with exit code {done.returncode}"


def cmake_args(choice: Choice) -> str:
    """The value of CMAKE_ARGS for the build: our options, then the caller's, which win."""
    ours = shlex.join([*OPTIONS, *choice.cmake, *processor.flags().cmake])
    return f"{ours} {os.environ.get('CMAKE_ARGS', '')}".strip()


def build_command(*, fresh: bool) -> list[str]:
    """The pip command that compiles llama-cpp-python; unless `fresh`, an earlier build in pip's cache may serve."""
    # pip's cache knows nothing of CMAKE_ARGS, so a build that has to differ from an earlier one must not ask it.
    again = ["--no-cache-dir", "--force-reinstall", "--no-deps", "--no-binary", "llama-cpp-python"]
    return _pip("install", "-v", *(again if fresh else []), requirement("llama-cpp-python"))


def prebuilt_command(variant: str) -> list[str]:
    """The pip command that installs upstream's own wheel for `variant` (`cpu`, `cu124`, `metal`, `vulkan`)."""
    index = ["--extra-index-url", PREBUILT_INDEX + variant]
    only = ["--force-reinstall", "--no-deps", "--only-binary", "llama-cpp-python"]
    return _pip("install", *only, *index, requirement("llama-cpp-python"))


def build(choice: Choice, *, jobs: int, fresh: bool) -> None:
    """Compile and install llama-cpp-python for `choice` with `jobs` compilers at once.

    Raises:
        SetupError: the build failed; with the end of the log and the likeliest remedy.
    """
    environment = os.environ | {"CMAKE_ARGS": cmake_args(choice), "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs)}
    if choice.backend == "hip":
        environment |= _hip_compiler()
    for again in (True,) if fresh else (False, True):
        code, output = run_logged(build_command(fresh=again), LOG, "llama-cpp-python", environment)
        if code != 0:
            raise SetupError(_explain(code, output, choice))
        wrong = shortcoming(choice.backend, prebuilt=False) or does_not_start()
        if not wrong:
            return
        if not again:
            say(f"  What pip had at hand does not serve ({wrong}): compiling without its cache")
    raise SetupError(f"llama-cpp-python was compiled, but {wrong}. The log is {LOG}.")


def install_prebuilt(variant: str) -> None:
    """Install upstream's wheel for `variant`.

    Raises:
        SetupError: there is none for this system and version, or it does not start.
    """
    code, output = run_logged(prebuilt_command(variant), LOG, f"llama-cpp-python ({variant})", dict(os.environ))
    if code != 0:
        raise SetupError(
            f"{_tail(output)}\n\nUpstream has no such wheel for this system, or it cannot be reached.\n"
            "Compile instead: tools/install"
        )
    wrong = does_not_start()
    if wrong:
        raise SetupError(f"Upstream's wheel does not start here: {wrong}\nCompile instead: tools/install --rebuild")


def jobs_for(choice: Choice) -> int:
    """How many compilers may run at once: one a core, as long as each can have its share of the free memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    need = 3 << 30 if choice.backend in ("cuda", "hip") else 1 << 30
    return max(1, min(cores, _free_memory(default=cores * need) // need))


def _free_memory(default: int) -> int:
    """Bytes that may still be used: of the machine, or of the container's limit if that is less."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        free = int(re.findall(r"MemAvailable:\s+(\d+) kB", text)[0]) * 1024
    except (OSError, IndexError):
        return default
    try:
        limit, used = (Path("/sys/fs/cgroup", name).read_text() for name in ("memory.max", "memory.current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):
        # No container, or one without a limit ("max").
        return free


def _hip_compiler() -> dict[str, str]:
    """llama.cpp's HIP build takes its compiler from these two variables."""
    answers = {"HIPCXX": "-l", "HIP_PATH": "-R"}
    found = {}
    for variable, flag in answers.items():
        done = subprocess.run(["hipconfig", flag], capture_output=True, text=True, check=True)
        found[variable] = done.stdout.strip()
    return found | {"HIPCXX": f"{found['HIPCXX']}/clang"}


def _explain(code: int, output: list[str], choice: Choice) -> str:
    text = "\n".join(output)
    remedy = ""
    if "No space left on device" in text:
        remedy = "The disk is full: free some space, then run this again."
    elif re.search(r"Killed signal|fatal error: Killed|out of memory", text) or code in (-9, 137):
        remedy = "The compiler ran out of memory. Compile one file at a time: tools/install --jobs 1"
    elif re.search(r"NewConnectionError|Temporary failure in name resolution|No matching distribution", text):
        remedy = "PyPI could not be reached, or has no such version for this Python."
    else:
        for pattern, what in _REMEDIES:
            if re.search(pattern, text):
                remedy = f"Install what is missing, then run this again: {install_command(what)}"
                break
    if not remedy and choice.backend != "cpu":
        remedy = "To go on without the GPU for now: tools/install --backend cpu"
    remedy = remedy or "Upstream's own builds may serve instead: tools/install --prebuilt"
    return f"{_tail(output)}\n\nllama-cpp-python could not be compiled. The whole log is {LOG}.\n{remedy}"


def _tail(output: list[str]) -> str:
    return "\n".join("  | " + line[:200] for line in output[-15:])


def _pip(*args: str) -> list[str]:
    return [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *args]


def shown(command: list[str]) -> str:
    """A command as a person would type it."""
    return shlex.join(command)
