"""For which device llama.cpp is built, decided from what programs on PATH answer."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import pytest
from installer import accelerator

Machine = Callable[..., None]

H100 = "GPU 0: NVIDIA H100 (UUID: GPU-7d1)"
RADEON = "deviceType = PHYSICAL_DEVICE_TYPE_DISCRETE_GPU\n deviceName = AMD Radeon RX 7800 XT"
LLVMPIPE = "deviceType = PHYSICAL_DEVICE_TYPE_CPU\n deviceName = llvmpipe (LLVM 15.0.6, 256 bits)"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A Linux machine without any device; called with names and outputs of programs, it has those on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    for variable in ("CUDA_HOME", "CUDA_PATH", "VULKAN_SDK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "no-cuda"))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(accelerator, "PCI_DEVICES", tmp_path / "pci")
    monkeypatch.setattr(accelerator, "NVIDIA_DRIVER", tmp_path / "no-driver")
    monkeypatch.setattr(accelerator, "PREFIXES", (tmp_path / "usr",))

    def have(*silent: str, **answers: str) -> None:
        for name, output in {**dict.fromkeys(silent, ""), **answers}.items():
            script = programs / name.replace("_", "-")
            script.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{output}\nEND\n")
            script.chmod(0o755)

    return have


def vulkan_development(tmp_path: Path) -> None:
    for file in ("include/vulkan/vulkan.h", "share/cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake"):
        path = tmp_path / "usr" / file
        path.parent.mkdir(parents=True)
        path.touch()


def pci_display(tmp_path: Path, vendor: str) -> None:
    device = tmp_path / "pci" / "0000:01:00.0"
    device.mkdir(parents=True)
    (device / "class").write_text("0x030000\n")
    (device / "vendor").write_text(f"{vendor}\n")


def test_nothing_is_a_cpu_build(machine: Machine) -> None:
    choice = accelerator.choose()
    assert choice.backend == "cpu"
    assert choice.cmake == ()
    assert "no GPU answers" in choice.reason


def test_a_compiler_without_a_driver_is_no_reason_to_build_for_cuda(machine: Machine) -> None:
    machine("nvcc")
    choice = accelerator.choose()
    assert choice.backend == "cpu"
    assert "nvcc" in choice.reason
    assert "no NVIDIA driver" in choice.reason


def test_a_driver_that_fails_is_no_gpu(machine: Machine, tmp_path: Path) -> None:
    machine("nvcc")
    script = tmp_path / "bin" / "nvidia-smi"
    script.write_text(f"#!/bin/sh\necho '{H100}'\nexit 9\n")
    script.chmod(0o755)
    assert accelerator.choose().backend == "cpu"


def test_a_gpu_and_its_compiler_are_cuda(machine: Machine) -> None:
    machine("nvcc", nvidia_smi=H100)
    choice = accelerator.choose()
    assert choice.backend == "cuda"
    assert choice.cmake == ("-DGGML_CUDA=ON",)
    assert "NVIDIA H100 answers" in choice.reason


def test_a_compiler_off_the_path_is_passed_on(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(nvidia_smi=H100)
    nvcc = tmp_path / "cuda" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.touch(mode=0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    assert accelerator.choose().cmake == ("-DGGML_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}")


def test_a_gpu_without_its_compiler_is_named_with_the_command(machine: Machine) -> None:
    machine("apt-get", nvidia_smi=H100)
    choice = accelerator.choose()
    assert choice.backend == "cpu"
    (line,) = choice.unused
    assert "NVIDIA H100" in line
    assert "apt-get install nvidia-cuda-toolkit && tools/install" in line


def test_a_gpu_without_its_driver_is_named(machine: Machine, tmp_path: Path) -> None:
    pci_display(tmp_path, "0x10de")
    choice = accelerator.choose()
    assert choice.backend == "cpu"
    assert "no driver answers" in choice.unused[0]


def test_an_amd_gpu_without_vulkan_is_named(machine: Machine, tmp_path: Path) -> None:
    machine("dnf")
    pci_display(tmp_path, "0x1002")
    (line,) = accelerator.choose().unused
    assert "AMD" in line
    assert "dnf install vulkan-headers" in line


def test_vulkan_on_the_cpu_is_no_gpu(machine: Machine, tmp_path: Path) -> None:
    machine("glslc", vulkaninfo=LLVMPIPE)
    vulkan_development(tmp_path)
    choice = accelerator.choose()
    assert (choice.backend, choice.unused) == ("cpu", ())


def test_vulkan_with_a_gpu_and_its_toolchain(machine: Machine, tmp_path: Path) -> None:
    machine("glslc", vulkaninfo=f"{LLVMPIPE}\n{RADEON}")
    vulkan_development(tmp_path)
    choice = accelerator.choose()
    assert choice.backend == "vulkan"
    assert "AMD Radeon RX 7800 XT" in choice.reason


def test_vulkan_without_its_toolchain_names_each_missing_part(machine: Machine) -> None:
    machine("apt-get", vulkaninfo=RADEON)
    choice = accelerator.choose()
    assert choice.backend == "cpu"
    (line,) = choice.unused
    for part in ("AMD Radeon", "glslc", "Vulkan headers", "SPIRV-Headers", "apt-get install libvulkan-dev"):
        assert part in line


def test_cuda_comes_before_vulkan_and_a_gpu_without_cuda_may_use_vulkan(machine: Machine, tmp_path: Path) -> None:
    machine("glslc", nvidia_smi=H100, vulkaninfo=RADEON.replace("AMD Radeon RX 7800 XT", "NVIDIA H100"))
    vulkan_development(tmp_path)
    choice = accelerator.choose()
    assert choice.backend == "vulkan"
    assert "nvcc is missing" in choice.unused[0]
    machine("nvcc")
    assert accelerator.choose().backend == "cuda"


def test_rocm_needs_its_compiler(machine: Machine) -> None:
    machine(rocminfo="  Name:                    gfx1100")
    choice = accelerator.choose()
    assert choice.backend == "cpu"
    assert "gfx1100" in choice.unused[0]
    machine("hipcc")
    assert accelerator.choose().backend == "hip"


def test_apple_silicon_is_metal(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert accelerator.choose().backend == "metal"
    assert accelerator.prebuilt_variant()[0] == "metal"


def test_the_person_decides(machine: Machine) -> None:
    machine("nvcc", nvidia_smi=H100)
    choice = accelerator.choose("cpu")
    assert (choice.backend, choice.cmake) == ("cpu", ())
    assert "--backend" in choice.reason


@pytest.mark.parametrize(
    ("driver", "variant"), [("12.4", "cu124"), ("12.8", "cu125"), ("13.1", "cu130"), ("11.4", "cpu")]
)
def test_the_prebuilt_wheel_suits_the_driver(machine: Machine, driver: str, variant: str) -> None:
    machine(nvidia_smi=f"{H100}\n| NVIDIA-SMI 550 CUDA Version: {driver} |")
    assert accelerator.prebuilt_variant()[0] == variant
