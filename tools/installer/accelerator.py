"""Decides for which device llama.cpp is compiled, and says why.

Only looks: at programs on PATH, at what drivers answer, at a few system folders. Knows nothing of pip or of the
environment. A compiler without a GPU that answers is no reason to build for it, and a GPU whose toolchain is missing is
named together with the command that would use it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BACKENDS = ("cpu", "cuda", "metal", "vulkan", "hip")

_FLAG = {
    "cpu": (),
    "cuda": ("-DGGML_CUDA=ON",),
    "metal": ("-DGGML_METAL=ON",),
    "vulkan": ("-DGGML_VULKAN=ON",),
    "hip": ("-DGGML_HIP=ON",),
}

# Each family of distributions by its package command: what it calls the C++ compiler, CUDA's compiler, Vulkan's parts.
_PACKAGES = {
    "apt-get install": ("build-essential", "nvidia-cuda-toolkit", "libvulkan-dev glslc spirv-headers vulkan-tools"),
    "dnf install": (
        "gcc gcc-c++",
        "cuda-toolkit",
        "vulkan-headers vulkan-loader-devel glslc spirv-headers-devel vulkan-tools",
    ),
    "pacman -S": ("base-devel", "cuda", "vulkan-headers vulkan-icd-loader shaderc spirv-headers vulkan-tools"),
    "zypper install": ("gcc-c++", "cuda-toolkit", "vulkan-devel shaderc spirv-headers vulkan-tools"),
    "apk add": ("build-base", "", "vulkan-headers vulkan-loader-dev shaderc spirv-headers vulkan-tools"),
}

PREBUILT_CUDA = (118, 121, 122, 123, 124, 125, 130, 132)
"""The CUDA versions, times ten, for which upstream documents prebuilt wheels."""

PCI_DEVICES = Path("/sys/bus/pci/devices")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
PREFIXES = (Path("/usr"), Path("/usr/local"), Path("/opt/homebrew"))


@dataclass(frozen=True)
class Choice:
    """The backend to build, why, the CMake options that select it, and the GPUs that this build will not use."""

    backend: str
    reason: str
    cmake: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def choose(forced: str | None = None) -> Choice:
    """The backend to build for: `forced`, or the best one whose device answers and whose toolchain is here."""
    if forced is not None:
        return Choice(forced, "because --backend says so.", _cmake(forced))
    unused: list[str] = []
    for backend, look in (("cuda", _cuda), ("metal", _metal), ("hip", _hip), ("vulkan", _vulkan)):
        reason, complaint = look()
        if reason:
            return Choice(backend, reason, _cmake(backend), tuple(unused))
        unused += [complaint] if complaint else []
    return Choice("cpu", _why_cpu(unused), _cmake("cpu"), tuple(unused))


def prebuilt_variant() -> tuple[str, str]:
    """Which of upstream's wheels suits this machine, and why. They need a driver, but no toolchain."""
    gpu = _nvidia_gpu()
    version = re.search(r"CUDA Version: (\d+)\.(\d+)", _answer("nvidia-smi") or "")
    if gpu and version:
        driver = int(version[1]) * 10 + int(version[2])
        fitting = [number for number in PREBUILT_CUDA if number <= driver]
        if fitting:
            return f"cu{max(fitting)}", f"because {gpu} answers, with a driver for CUDA {version[1]}.{version[2]}."
    if _metal()[0]:
        return "metal", _metal()[0]
    if _vulkan_gpu():
        return "vulkan", f"because {_vulkan_gpu()} answers through Vulkan."
    return "cpu", "because no GPU answers here."


def install_command(what: str) -> str:
    """The command that installs `compiler`, `cuda` or `vulkan` on this system, in a form to copy."""
    if platform.system() == "Darwin":
        return "xcode-select --install" if what == "compiler" else "brew install molten-vk vulkan-headers shaderc"
    for command, packages in _PACKAGES.items():
        name = packages[("compiler", "cuda", "vulkan").index(what)]
        if shutil.which(command.split()[0]) and name:
            return f"{'' if os.geteuid() == 0 else 'sudo '}{command} {name}"
    return {
        "compiler": "your system's package of GCC or Clang with C++",
        "cuda": "the CUDA toolkit from https://developer.nvidia.com/cuda-downloads",
        "vulkan": "the Vulkan SDK from https://vulkan.lunarg.com",
    }[what]


def _cmake(backend: str) -> tuple[str, ...]:
    nvcc = _nvcc() if backend == "cuda" else None
    compiler = () if nvcc is None or shutil.which("nvcc") else (f"-DCMAKE_CUDA_COMPILER={nvcc}",)
    return _FLAG[backend] + compiler


def _why_cpu(unused: Iterable[str]) -> str:
    if any(unused):
        return "because no GPU is ready to be built for:"
    if _nvcc() is not None:
        return "because no GPU answers: there is an nvcc here, but no NVIDIA driver."
    return "because no GPU answers here."


# Each of these returns why its backend can be built, or what stands in the way of a device that is there, or neither.


def _cuda() -> tuple[str, str]:
    gpu = _nvidia_gpu()
    if gpu:
        if _nvcc() is not None:
            return f"because {gpu} answers and nvcc is here.", ""
        return "", f"{gpu} answers, but nvcc is missing: {_then_again('cuda')}"
    if "nvidia" in _pci_gpus() and _answer("nvidia-smi", "-L") is None:
        return "", "There is an NVIDIA GPU, but no driver answers: install NVIDIA's driver, then this again."
    return "", ""


def _metal() -> tuple[str, str]:
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "because this is a Mac with Apple silicon.", ""
    return "", ""


def _hip() -> tuple[str, str]:
    agents = re.findall(r"^\s*Name:\s+(gfx\w+)", _answer("rocminfo") or "", re.MULTILINE)
    if not agents:
        return "", ""
    if shutil.which("hipcc"):
        return f"because ROCm answers with {agents[0]} and hipcc is here.", ""
    return "", f"ROCm answers with {agents[0]}, but hipcc is missing: install the ROCm HIP SDK, then this again."


def _vulkan() -> tuple[str, str]:
    gpu = _vulkan_gpu()
    missing = _missing_for_vulkan()
    if gpu and not missing:
        return f"because {gpu} answers through Vulkan and its shader compiler is here.", ""
    if gpu:
        return "", f"{gpu} answers through Vulkan, but {' and '.join(missing)} missing: {_then_again('vulkan')}"
    others = [name for name in _pci_gpus() if name != "nvidia"]
    if others and platform.system() == "Linux" and _answer("vulkaninfo", "--summary") is None:
        return "", f"There is an {others[0]} GPU, but no Vulkan driver answers: {_then_again('vulkan')}"
    return "", ""


def _then_again(what: str) -> str:
    return f"{install_command(what)} && tools/install"


def _nvidia_gpu() -> str:
    for program in ("nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi"):
        names = re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", _answer(program, "-L") or "", re.MULTILINE)
        if names:
            return str(names[0]) if len(names) == 1 else f"{len(names)} GPUs ({names[0]}, …)"
    return "an NVIDIA GPU" if NVIDIA_DRIVER.exists() and _cuda_devices() > 0 else ""


def _cuda_devices() -> int:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int(0)
        failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else count.value


def _nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    return shutil.which("nvcc") or shutil.which(str(Path(home, "bin", "nvcc")))


def _vulkan_gpu() -> str:
    summary = _answer("vulkaninfo", "--summary") or ""
    devices = re.findall(r"deviceType\s*=\s*PHYSICAL_DEVICE_TYPE_(\w+)\s+deviceName\s*=\s*(.+)", summary)
    real = [name.strip() for kind, name in devices if kind != "CPU" and "llvmpipe" not in name]
    return real[0] if real else ""


def _missing_for_vulkan() -> list[str]:
    sdk = os.environ.get("VULKAN_SDK")
    prefixes = [*PREFIXES, *([Path(sdk)] if sdk else [])]
    wanted = {
        "glslc is": [] if not shutil.which("glslc") else ["."],
        "the Vulkan headers are": ["include/vulkan/vulkan.h"],
        "SPIRV-Headers is": [f"{folder}/cmake/SPIRV-Headers" for folder in ("share", "lib", "lib64")],
    }
    return [
        what
        for what, places in wanted.items()
        if not any((prefix / place).exists() for prefix in prefixes for place in places)
    ]


def _pci_gpus() -> list[str]:
    """The makers of the display devices on the PCI bus, whether or not a driver answers for them."""
    makers = {"0x10de": "nvidia", "0x1002": "AMD", "0x8086": "Intel"}
    found = []
    for device in sorted(PCI_DEVICES.glob("*")):
        try:
            display = (device / "class").read_text().startswith("0x03")
            maker = makers.get((device / "vendor").read_text().strip())
        except OSError:
            continue
        if display and maker:
            found.append(maker)
    return found


def _answer(program: str, *args: str) -> str | None:
    """What a program prints, or None if it is not there, fails or does not answer."""
    path = shutil.which(program)
    if path is None:
        return None
    try:
        done = subprocess.run([path, *args], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
