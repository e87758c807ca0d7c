"""`localllm pull` as a command: what it prints, and that it survives being killed, stopped and started twice."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import localllm
from localllm.cli.main import main
from localllm.library.pulling.partial import BLOCK
from tests.library.hub_server import HubServer
from tests.library.pulls import blocks_noted, put_models, stopped_after, unfinished

SIZE = 24 * BLOCK


@pytest.fixture
def environment(hub: HubServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a command that talks to a hub with a model of many blocks."""
    hub.add("org/m-GGUF", put_models(tmp_path / "repo", "m-Q4_K_M.gguf", size=SIZE))
    root = str(Path(localllm.__file__).parent.parent)
    places = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "PYTHONPATH": root,
        "HF_HUB_DOWNLOAD_TIMEOUT": "60",
    }
    return {**os.environ, **places}


COMMAND = [sys.executable, "-m", "localllm", "pull", "org/m-GGUF"]


def finished(environment: dict[str, str]) -> dict[str, object]:
    done = subprocess.run([*COMMAND, "--json"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return document


@contextmanager
def in_the_middle(hub: HubServer, environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, when some blocks have arrived and no more come until the block ends."""
    with stopped_after(8 * BLOCK, hub, COMMAND, environment, tmp_path) as child:
        yield child


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(hub: HubServer, tmp_path: Path, environment: dict[str, str]) -> None:
    with in_the_middle(hub, environment, tmp_path) as child:
        child.kill()
    kept = blocks_noted(tmp_path)
    assert kept >= 2
    assert not list((tmp_path / "hf").rglob("*.gguf"))
    document = finished(environment)
    source = tmp_path / "repo" / "m-Q4_K_M.gguf"
    assert Path(str(document["path"])).read_bytes() == source.read_bytes()
    assert document["downloaded"] == source.stat().st_size - kept * BLOCK
    assert document["bytes"] == source.stat().st_size
    assert unfinished(tmp_path) == []
    again = finished(environment)
    assert (again["downloaded"], again["path"]) == (0, document["path"])


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle_it_says_how_to_go_on(
    hub: HubServer, tmp_path: Path, environment: dict[str, str], number: int, code: int
) -> None:
    with in_the_middle(hub, environment, tmp_path) as child:
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
    assert child.returncode == code, err
    assert "the same command goes on with what has arrived" in err
    assert "%|" not in err.partition("the same command")[2], "the bar ends before"
    assert "Traceback" not in err
    assert blocks_noted(tmp_path) >= 2


@pytest.mark.slow
def test_two_at_once_download_it_once(hub: HubServer, tmp_path: Path, environment: dict[str, str]) -> None:
    with in_the_middle(hub, environment, tmp_path) as child:
        second = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert second.stderr is not None
        assert any("another process is downloading m-Q4_K_M.gguf; waiting for it" in line for line in second.stderr)
        hub.faults.hang_after = math.inf
        out, _ = child.communicate(timeout=60)
    assert second.communicate(timeout=60)[0] == out
    assert (child.returncode, second.returncode) == (0, 0)
    source = tmp_path / "repo" / "m-Q4_K_M.gguf"
    assert hub.sent == source.stat().st_size
    assert Path(out.strip()).read_bytes() == source.read_bytes()


def test_the_command_tells_what_came(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], environment: dict[str, str]
) -> None:
    source = tmp_path / "repo" / "m-Q4_K_M.gguf"
    assert main(["pull", "org/m-GGUF", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out.splitlines()[-1])
    assert {key: document[key] for key in ("name", "bytes", "downloaded", "origin")} == {
        "name": "org/m-GGUF",
        "bytes": source.stat().st_size,
        "downloaded": source.stat().st_size,
        "origin": f"org/m-GGUF@{hub.repos['org/m-GGUF'].commit[:8]}",
    }
    assert document["files"][0]["sha256"] == Path(document["path"]).resolve().name
    assert "m-Q4_K_M.gguf, 25.2 MB" in err
    assert "B/s]" in err
    assert main(["pull", "org/m-GGUF"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == document["path"]
    assert err == "already on this machine\nit is called org/m-GGUF:Q4_K_M: localllm chat org/m-GGUF:Q4_K_M\n"
    assert document["called"] == "org/m-GGUF:Q4_K_M"
    assert main(["pull", "org/m-GGUF:Q2_K"]) == 1
    assert "Choose one:\n    org/m-GGUF:Q4_K_M  25 MB" in capsys.readouterr().err
