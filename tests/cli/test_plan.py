"""`localllm plan`: a table for people, bytes for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localllm.cli.main import main
from localllm.native import machine
from localllm.runtime.types import UNCOUNTED


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_does_not_fit_is_shown_with_what_would(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "system_memory", lambda: (160 << 20, 8 << 30))
    assert main(["plan", "--ctx", "8192"]) == 1
    out, errors = capsys.readouterr()
    assert "It does not fit." in out
    assert "error: " in errors
    assert "on CPU (weights " in errors
    assert "What would fit: a context of" in errors
    assert main(["plan", "--ctx", "8192", "--json"]) == 1
    out, errors = capsys.readouterr()
    plan = json.loads(out)
    assert plan["fits"] is False
    assert "What would fit: a context of" in plan["advice"]
    assert "on CPU (weights " in errors


@pytest.mark.slow
def test_a_context_beyond_all_bounds_is_estimated_not_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--ctx", "2000000000", "--json"]) == 1
    plan = json.loads(capsys.readouterr().out)
    assert plan["exact"] is False
    assert "too large to simulate" in plan["estimate"]
    assert plan["fits"] is False


def _laptop(folder: Path, *rows: dict[str, object]) -> str:
    file = folder / "laptop.json"
    file.write_text(json.dumps({"devices": [{"description": "", "bandwidth": None, **row} for row in rows]}))
    return str(file)


@pytest.mark.slow
def test_another_machine_is_planned_for(smollm2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cpu = {"name": "CPU", "kind": "cpu", "free": 8 << 30, "total": 16 << 30}
    gpu = {"name": "CUDA0", "kind": "gpu", "free": 300 << 20, "total": 310 << 20}
    assert main(["plan", str(smollm2), "--ctx", "1024", "--json", "--machine", _laptop(tmp_path, gpu, cpu)]) == 0
    plan = json.loads(capsys.readouterr().out)
    first, last = plan["devices"]
    assert (first["name"], first["free"], last["name"], last["total"]) == ("CUDA0", 300 << 20, "CPU", 16 << 30)
    assert 0 < first["layers"] == plan["gpu_layers"] < 31
    assert first["weights"] + first["kv"] + first["compute"] <= (300 << 20) - UNCOUNTED
    assert "another machine" in plan["estimate"]
    small = {**cpu, "free": 100 << 20}
    assert main(["plan", str(smollm2), "--ctx", "1024", "--machine", _laptop(tmp_path, small)]) == 1
    out = capsys.readouterr().out
    assert "It does not fit" in out
    assert "another processor" in out


@pytest.mark.slow
def test_a_gpu_without_room_for_its_kernels_takes_nothing(
    smollm2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu = {"name": "CPU", "kind": "cpu", "free": 8 << 30, "total": 16 << 30}
    machine = _laptop(tmp_path, {"name": "CUDA0", "kind": "gpu", "free": 200 << 20, "total": 8 << 30}, cpu)
    flags = [str(smollm2), "--ctx", "512", "--json", "--machine", machine]
    assert main(["plan", *flags]) == 0
    gpu = json.loads(capsys.readouterr().out)["devices"][0]
    assert (gpu["weights"], gpu["kv"], gpu["compute"]) == (0, 0, 0)
    # A layer would fit with the kernels' memory uncounted, which ends the process at the first token.
    assert main(["plan", *flags, "--gpu-layers", "8"]) == 1
    plan = json.loads(capsys.readouterr().out)
    assert 0 < sum(plan["devices"][0][size] for size in ("weights", "kv", "compute")) < 200 << 20
    assert "--gpu-layers 0" in plan["advice"]


def test_this_machine_planned_as_another_is_the_same(
    smollm2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["devices", "--json"]) == 0
    (tmp_path / "this.json").write_text(capsys.readouterr().out)
    plans = []
    for flags in ([], ["--machine", str(tmp_path / "this.json")]):
        assert main(["plan", str(smollm2), "--ctx", "1024", "--gpu-layers", "0", "--json", *flags]) == 0
        plans.append(json.loads(capsys.readouterr().out)["devices"][-1])
    assert all(plans[0][size] == plans[1][size] for size in ("weights", "kv", "compute"))


@pytest.mark.parametrize("text", ["", "[]", '{"devices": []}', '{"devices": [{"name": "CPU"}]}'])
def test_a_file_that_is_no_machine_is_wrong_usage(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.json").write_text(text)
    with pytest.raises(SystemExit) as caught:
        main(["plan", "--machine", str(tmp_path / "wrong.json")])
    assert caught.value.code == 2
    assert "localllm devices --json" in capsys.readouterr().err


def test_a_machine_has_no_workers_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plan", "--machine", str(tmp_path / "any.json"), "--worker", "a:1"])
    assert caught.value.code == 2
    assert "leave out --worker" in capsys.readouterr().err
