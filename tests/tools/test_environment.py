"""The virtual environment that `tools/install` makes and repairs."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from installer import environment


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "venv"
    monkeypatch.setattr(environment, "VENV", folder)
    monkeypatch.setattr(environment, "PYTHON", folder / "bin" / "python")
    return folder


@pytest.mark.slow
def test_it_is_made_and_kept_and_made_again_when_broken(venv: Path) -> None:
    assert environment.make(None) == "made"
    assert environment.make(None) == "kept"
    shutil.rmtree(environment.site_packages() / "pip")
    assert environment.make(None) == "made again"
    subprocess.run([venv / "bin" / "python", "-m", "pip", "--version"], capture_output=True, check=True)


def test_a_python_without_venv_names_debians_package(
    venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec

    def without_ensurepip(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "ensurepip" else find_spec(name, package)

    (tmp_path / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", without_ensurepip)
    with pytest.raises(environment.SetupError, match=r"apt-get install python3\.\d+-venv"):
        environment.make(None)
    assert not venv.exists()


def test_an_old_python_is_refused(venv: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\necho 3 9\n")
    old.chmod(0o755)
    with pytest.raises(environment.SetupError, match=r"needs Python 3\.10 or newer"):
        environment.make(str(old))


def test_the_requirement_is_read_from_the_project() -> None:
    assert environment.requirement("llama-cpp-python").startswith("llama-cpp-python>=0.3")
    with pytest.raises(environment.SetupError):
        environment.requirement("llama")
