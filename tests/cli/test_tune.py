"""`localllm tune`: a table, what is kept and what is forgotten. The rates are given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from localllm.cli.main import main
from localllm.measure import bench
from localllm.measure.speed import Decoding, Effort, Rates
from localllm.native.handles import ModelHandle
from localllm.runtime.options import Options


@pytest.fixture(autouse=True)
def _off_is_twice_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(_model: ModelHandle, options: Options, _effort: Effort) -> Decoding:
        fast = 2 if options.flash_attention is False else 1
        return Decoding((100 * fast, 50 * fast), 4)

    def prefill(_model: ModelHandle, _options: Options, _effort: Effort) -> Rates:
        return 1234, 1000

    monkeypatch.setattr(bench, "measure_decode", decode)
    monkeypatch.setattr(bench, "measure_prefill", prefill)


def planned(smollm2: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[str, str]:
    """(table, notes) of the plan."""
    assert main(["plan", str(smollm2), *flags]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


@pytest.mark.slow
def test_what_is_found_is_used_until_it_is_forgotten(
    smollm2: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["tune", str(smollm2)]) == 0
    out, err = capsys.readouterr()
    (line,) = [line for line in out.splitlines() if line.startswith("*")]
    assert {"off", "f16", "1234.0", "200.0", "100.0"} <= set(line.split())
    assert "times as fast as without" in out
    assert "Kept in" in err
    _, notes = planned(smollm2, capsys)
    assert "Tuned for this machine" in notes
    assert "flash attention off" in notes
    assert planned(smollm2, capsys, "--no-tuned")[1] == ""
    monkeypatch.setattr(sys, "stdin", None)
    quiet = ["run", str(smollm2), "Hi", "--max-tokens", "1"]
    assert main(quiet) == 0
    assert "Tuned" not in capsys.readouterr().err  # who tuned it knows
    assert main([*quiet, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "Tuned for this machine" in json.loads(out)["notes"][0]
    assert "Tuned" not in err
    assert main([*quiet, "--verbose"]) == 0
    assert "note: Tuned for this machine" in capsys.readouterr().err
    assert main(["tune", str(smollm2), "--forget"]) == 0
    assert "forgotten" in capsys.readouterr().out
    assert planned(smollm2, capsys)[1] == ""
    assert main(["tune", str(smollm2), "--forget"]) == 0
    assert "nothing was kept" in capsys.readouterr().out


@pytest.mark.slow
def test_json_has_what_was_measured_and_chosen(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(smollm2), "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["choice"]["flash_attention"] is False
    assert found["before"]["flash_attention"] is True
    assert found["gain"] > 1
    assert {"choice", "speed", "seconds", "memory"} <= set(found["rows"][0])
    assert Path(found["file"]).is_file()
    assert json.loads(Path(found["file"]).read_text())["choice"] == found["choice"]
    assert "times as fast" in err
    assert main(["tune", str(smollm2), "--forget", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forgotten"] == 1


@pytest.mark.slow
def test_dry_keeps_nothing(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(smollm2), "--dry", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] is None
    assert planned(smollm2, capsys)[1] == ""
