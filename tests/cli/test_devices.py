"""`localllm devices`: a table for people, bytes for programs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from localllm.cli.main import main
from localllm.native import accelerators, bandwidth, devices, machine


def test_json_has_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    cpu = found["devices"][-1]
    assert cpu["kind"] == "cpu"
    assert cpu["bandwidth"] is None
    assert 0 < cpu["free"] <= cpu["total"]
    assert found["threads"] == machine.usable_threads()
    assert found["cpu_features"] == devices.cpu_features()
    assert found["limits"]["allowed_cpus"] >= 1
    assert found["build"].startswith("llama-cpp-python ")


def test_the_table_shows_limits_and_waste(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(machine.limits(), cpu_quota=1.5, memory=3 << 30)
    gpu = accelerators.UnusedGPU("NVIDIA", "An NVIDIA GPU is here.", "tools/install --rebuild")
    monkeypatch.setattr(machine, "limits", lambda: limits)
    monkeypatch.setattr(accelerators, "unused", lambda *_: [gpu])
    assert main(["devices"]) == 0
    out, err = capsys.readouterr()
    assert "Threads: 1 (" in out
    assert "a cgroup pays for 1.5" in out
    assert "a cgroup allows this process 3.00 GiB" in out
    assert "bandwidth" not in out
    assert err == "note: An NVIDIA GPU is here. tools/install --rebuild\n"


def test_bandwidth_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "measure", lambda _device, _threads: 12.34e9)
    assert main(["devices", "--bandwidth"]) == 0
    assert "12.3 GB/s" in capsys.readouterr().out


def test_no_room_to_measure_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "system_memory", lambda: (1 << 20, 8 << 30))
    assert main(["devices", "--bandwidth"]) == 0
    assert "too little to measure" in capsys.readouterr().err
