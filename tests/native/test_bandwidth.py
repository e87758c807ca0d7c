"""The measured bandwidth of the CPU. How high it is, no test can know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from localllm.errors import DoesNotFit
from localllm.native import bandwidth, devices


def test_a_full_device_is_not_measured() -> None:
    cpu = replace(devices.devices()[-1], free=bandwidth.SMALLEST)
    with pytest.raises(DoesNotFit, match="too little to measure"):
        bandwidth.measure(cpu, 1)


@pytest.mark.slow
def test_the_cpu_reads_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "LARGEST", bandwidth.SMALLEST)
    monkeypatch.setattr(bandwidth, "_SECONDS", 0.1)
    speed = bandwidth.measure(devices.devices()[-1], 1)
    assert 1e8 < speed < 1e13
