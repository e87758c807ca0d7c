"""GPUs that are in this machine but that this build of llama.cpp cannot use, and the command that mends it.

Looks only at what costs nothing: a few files of drivers, and programs on PATH. `tools/install` looks closer.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from localllm.native.devices import Device

_CHECKOUT_INSTALLER = Path(__file__).resolve().parents[2] / "tools" / "install"

DRIVER_FILES = {"NVIDIA": ("/proc/driver/nvidia/version", "/dev/nvidia0"), "AMD": ("/dev/kfd",)}
DRIVER_PROGRAMS = {"NVIDIA": "nvidia-smi", "AMD": "rocminfo"}
RENDER_NODES = Path("/sys/class/drm")

# By maker: the backends of ggml that use its GPUs, and the option that compiles the best of them.
_BACKENDS = {
    "NVIDIA": ({"CUDA", "Vulkan"}, "-DGGML_CUDA=ON"),
    "AMD": ({"ROCm", "Vulkan"}, "-DGGML_HIP=ON"),
    "Intel": ({"SYCL", "Vulkan"}, "-DGGML_VULKAN=ON"),
    "Apple": ({"MTL", "Metal"}, "-DGGML_METAL=ON"),
}
_PCI_MAKERS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}


@dataclass(frozen=True)
class UnusedGPU:
    """A GPU that goes to waste: `reason` is a sentence, `command` what mends it."""

    maker: str
    reason: str
    command: str

    def __str__(self) -> str:
        return f"{self.reason} {self.command}"


def unused(present: Sequence[Device], backends: Collection[str]) -> list[UnusedGPU]:
    """The GPUs here of which ggml sees none. `backends` are the names of those that this build has."""
    if any(device.kind in ("gpu", "igpu") for device in present):
        return []
    return [_unused(maker, backends) for maker in _makers()]


def _unused(maker: str, backends: Collection[str]) -> UnusedGPU:
    usable, option = _BACKENDS[maker]
    built = sorted(usable & set(backends))
    article = "An" if maker[0] in "AIN" else "A"
    if built:
        reason = f"{article} {maker} GPU is here and this build of llama.cpp has {built[0]}, but finds no device."
        program = DRIVER_PROGRAMS.get(maker, "vulkaninfo")
        return UnusedGPU(maker, reason, f"The driver does not answer: see what `{program}` says.")
    reason = f"{article} {maker} GPU is here, but this build of llama.cpp cannot use it."
    return UnusedGPU(maker, reason, f"To build one that can: {_command(option)}")


def _command(option: str) -> str:
    if _CHECKOUT_INSTALLER.is_file():
        return "tools/install --rebuild"
    return f'CMAKE_ARGS="{option} -DGGML_RPC=ON" pip install --force-reinstall --no-cache-dir llama-cpp-python'


def _makers() -> list[str]:
    """Who made the GPUs for which there are signs, best first."""
    found = {maker for maker, files in DRIVER_FILES.items() if any(Path(file).exists() for file in files)}
    found |= {maker for maker, program in DRIVER_PROGRAMS.items() if shutil.which(program)}
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        found.add("Apple")
    for vendor in RENDER_NODES.glob("renderD*/device/vendor"):
        try:
            found.add(_PCI_MAKERS.get(vendor.read_text().strip(), ""))
        except OSError:
            continue
    return [maker for maker in _BACKENDS if maker in found]
