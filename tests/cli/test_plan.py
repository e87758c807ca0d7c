"""`localllm plan`: a table for people, bytes for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localllm.cli.main import main
from localllm.native import devices


def test_json_has_the_promised_keys(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(smollm2), "--ctx", "1024", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {"devices", "gpu_layers", "ctx", "fits"} <= set(plan)
    (cpu,) = [device for device in plan["devices"] if device["kind"] == "cpu"]
    assert {"name", "kind", "weights", "kv", "compute", "free", "total"} <= set(cpu)
    assert plan["ctx"] == 1024
    assert plan["fits"] is True
    assert cpu["kv"] == 1024 * 30 * 3 * 64 * 4
    assert plan["total"] == sum(d["weights"] + d["kv"] + d["compute"] for d in plan["devices"])


def test_the_table_says_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--ctx", "1024"]) == 0
    out = capsys.readouterr().out
    assert "KV cache" in out
    assert "22.5 MiB" in out
    assert "It fits." in out


def test_what_does_not_fit_is_shown_with_what_would(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "system_memory", lambda: (160 << 20, 8 << 30))
    assert main(["plan", "--ctx", "8192"]) == 0
    out = capsys.readouterr().out
    assert "It does not fit" in out
    assert "What would fit: a context of" in out


def test_a_context_beyond_all_bounds_is_estimated_not_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--ctx", "2000000000", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["exact"] is False
    assert "too large to simulate" in plan["estimate"]
    assert plan["fits"] is False
