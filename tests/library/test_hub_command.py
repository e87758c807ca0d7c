"""`localllm convert org/name` as a command: the environment counts, and Ctrl-C ends it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from make_tiny_models import TinyLlama, write_checkpoint

import localllm
from tests.library.hub_server import HubServer


@pytest.fixture
def environment(hub: HubServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a command that talks to the hub."""
    root = str(Path(localllm.__file__).parent.parent)
    places = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": root}
    return {**os.environ, **places, "HF_TOKEN": hub.token}


COMMAND = [sys.executable, "-m", "localllm", "convert", "org/tiny", "--outfile", "out/x.gguf"]


@pytest.mark.slow
def test_the_environment_counts_on_the_command_line(
    hub: HubServer, tiny: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    hub.add("org/tiny", tiny, gate="private")
    (tmp_path / "out").mkdir()

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, "--force", "--keep-download"]
        return subprocess.run(command, env={**environment, **more}, cwd=tmp_path, capture_output=True, text=True)

    done = run()
    assert done.returncode == 0, done.stderr
    assert "looking up org/tiny on the hub" in done.stderr
    assert (tmp_path / "hf" / "hub" / "models--org--tiny").is_dir()
    hub.requests.clear()
    done = run(HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    done = run(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty"))
    assert done.returncode == 1
    assert "HF_HUB_OFFLINE forbids to ask" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("keep", [[], ["--keep-download"]])
def test_ctrl_c_while_the_network_hangs_leaves_nothing_behind(
    hub: HubServer, tmp_path: Path, environment: dict[str, str], keep: list[str]
) -> None:
    hub.add("org/tiny", write_checkpoint(tmp_path / "wide", TinyLlama(hidden=512, ffn=2048, layers=4)))
    out = tmp_path / "out"
    out.mkdir()
    hub.faults.hang_after = 1 << 20
    with subprocess.Popen([*COMMAND, *keep], env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None and not list(out.glob(".*")):
            time.sleep(0.01)
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
    hub.faults.hang_after = math.inf
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_a_download_that_fails_is_gone_on_with(hub: HubServer, tmp_path: Path, environment: dict[str, str]) -> None:
    hub.add("org/tiny", write_checkpoint(tmp_path / "wide", TinyLlama(hidden=512, ffn=2048, layers=4)))
    out = tmp_path / "out"
    out.mkdir()
    command = [*COMMAND, "--resume"]
    hub.faults.hang_after = 8 << 20
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None and hub.sent < 8 << 20:
            time.sleep(0.01)
        hub.faults.statuses = [410] * 1000
        hub.faults.hang_after = math.inf
        _, err = child.communicate(timeout=60)
    assert child.returncode == 1, err
    assert "--resume goes on" in err
    hub.faults.statuses = []
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in out.iterdir()] == ["x.gguf"]
