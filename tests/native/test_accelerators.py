"""GPUs that go to waste: found by cheap signs, named with the command that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.native import accelerators
from localllm.native.devices import Device

CPU = Device("CPU", "a processor", "cpu", 1, 2, 0)


@pytest.fixture(autouse=True)
def _bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU, and not a Mac."""
    monkeypatch.setattr(accelerators, "DRIVER_FILES", {"NVIDIA": (str(tmp_path / "nvidia"),), "AMD": ()})
    monkeypatch.setattr(accelerators, "RENDER_NODES", tmp_path / "drm")
    monkeypatch.setattr("shutil.which", lambda _program: None)
    monkeypatch.setattr("platform.system", lambda: "Linux")


def test_no_gpu_no_complaint() -> None:
    assert accelerators.unused([CPU], ["CPU", "RPC"]) == []


def test_a_build_for_the_cpu_is_told_how_to_use_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia").touch()
    (found,) = accelerators.unused([CPU], ["CPU"])
    assert found.maker == "NVIDIA"
    assert found.command.endswith("tools/install --rebuild")
    assert "cannot use it" in str(found)
    monkeypatch.setattr(accelerators, "_CHECKOUT_INSTALLER", tmp_path / "none")
    (found,) = accelerators.unused([CPU], ["CPU"])
    assert 'CMAKE_ARGS="-DGGML_CUDA=ON -DGGML_RPC=ON" pip install' in found.command


def test_a_driver_that_does_not_answer_is_another_matter(tmp_path: Path) -> None:
    (tmp_path / "nvidia").touch()
    (found,) = accelerators.unused([CPU], ["CPU", "CUDA"])
    assert "has CUDA, but finds no device" in found.reason
    assert "nvidia-smi" in found.command


def test_programs_and_render_nodes_are_signs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = tmp_path / "drm" / "renderD128" / "device" / "vendor"
    vendor.parent.mkdir(parents=True)
    vendor.write_text("0x8086\n")
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}" if program == "rocminfo" else None)
    assert [found.maker for found in accelerators.unused([CPU], ["CPU"])] == ["AMD", "Intel"]
    vendor.write_text("0x1af4\n")  # a virtual machine's display
    assert [found.maker for found in accelerators.unused([CPU], ["CPU"])] == ["AMD"]


def test_a_gpu_in_use_is_no_waste(tmp_path: Path) -> None:
    (tmp_path / "nvidia").touch()
    assert accelerators.unused([Device("CUDA0", "a GPU", "gpu", 1, 2, 0), CPU], ["CPU", "CUDA"]) == []
