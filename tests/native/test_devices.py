"""Devices: which there are, their order, and over which of them layers are split."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from localllm.native import devices


def test_the_cpu_is_the_last_device_and_knows_its_memory() -> None:
    found = devices.devices()
    assert found[-1].kind == "cpu"
    assert 0 < found[-1].free <= found[-1].total <= psutil.virtual_memory().total


def test_layers_are_split_over_each_gpu_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {1: b"0000:01:00.0", 2: b"0000:01:00.0", 3: None, 4: None}

    def props(handle: int, found: Any) -> None:
        found._obj.id = ids[handle]

    monkeypatch.setattr(devices, "_functions", lambda: {"props": props})
    cuda, same, other, unnamed = (devices.Device(f"GPU{n}", "", "gpu", 1, 1, n) for n in ids)
    shared, lent = (devices.Device(kind, "", kind, 1, 1, 9) for kind in ("igpu", "worker"))
    cpu = devices.Device("CPU", "", "cpu", 1, 1, 0)
    assert devices.offload_devices([cuda, same, other, unnamed, shared, lent, cpu]) == [lent, cuda, other, unnamed]
    assert devices.offload_devices([lent, shared, cpu]) == [lent, shared]
    assert devices.offload_devices([cpu]) == []


def test_features_are_the_processors() -> None:
    features = devices.cpu_features()
    assert features
    assert all(name == name.upper() and " " not in name for name in features)
    assert ("AMX_INT8" in features) == devices.has_matrix_unit()
    assert "CPU" in devices.backends()
