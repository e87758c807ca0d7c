"""The progress bar of a conversion says how fast the hub is, and only where there is one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from localllm.cli.bar import Bar
from localllm.convert.files import LocalFiles


class Downloaded(LocalFiles):
    """Files of which ten megabytes arrive between any two looks."""

    arrived = 0

    def received(self) -> int:
        self.arrived += 10**7
        return self.arrived


@pytest.fixture(autouse=True)
def _every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(range(100))
    monkeypatch.setattr("localllm.cli.bar.time", SimpleNamespace(monotonic=lambda: float(next(moments))))


def test_the_rate_is_that_since_it_was_last_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(Downloaded(tmp_path)) as bar:
        for done in range(4):
            bar.update(done, 3)
    assert "10.0 MB/s from the hub" in capsys.readouterr().err


def test_what_passes_in_no_time_is_not_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(None, " headers", passing=True) as bar:
        bar.update(3, 3)
    assert capsys.readouterr().err == ""


def test_a_folder_has_no_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(tmp_path) as bar:
        bar.update(3, 3)
    err = capsys.readouterr().err
    assert "3.00/3.00" in err
    assert "hub" not in err
