"""Why weights take more than in the file: the words add up to what the plan says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from localllm.gguf_file import Header, read_header
from localllm.native import devices
from localllm.runtime.estimate import bytes_on_cpu
from localllm.runtime.more_weights import more_weights, table_bytes
from localllm.runtime.options import Options
from localllm.runtime.plan import make_plan
from localllm.runtime.types import DeviceMemory, MemorySample, Plan, mib


@pytest.fixture
def header(smollm2: Path) -> Header:
    return read_header(smollm2)


def with_weights(header: Header, weights: int) -> Plan:
    return Plan(header.path, Options(), (DeviceMemory("CPU", "cpu", weights, 0, 0, 1, 1),), exact=True)


def test_what_is_no_more_than_in_the_file_is_not_told(header: Header) -> None:
    assert more_weights(header, with_weights(header, header.tensor_bytes)) == ""


def test_the_table_that_is_kept_twice_is_told(header: Header) -> None:
    table = table_bytes(header)
    told = more_weights(header, with_weights(header, header.tensor_bytes + table))
    assert f"{mib(header.tensor_bytes)} in the file and {mib(header.tensor_bytes + table)} in memory" in told
    assert f"{mib(table)} more for the embedding table, which is kept a second time" in told
    assert "order" not in told


def test_the_rest_is_an_order_of_the_processors_own(header: Header) -> None:
    table = table_bytes(header)
    both = more_weights(header, with_weights(header, header.tensor_bytes + table + (5 << 20)))
    assert f"{mib(table)} more for the embedding table" in both
    assert "5.0 MiB more for the order" in both
    rest = more_weights(header, with_weights(header, header.tensor_bytes + (5 << 20)))
    assert "table" not in rest
    assert "5.0 MiB more for the order" in rest


def test_an_output_layer_with_weights_of_its_own_needs_no_second_table(header: Header) -> None:
    table = next(tensor for tensor in header.tensors if tensor.name == "token_embd.weight")
    assert table_bytes(header) == table.n_bytes
    assert table_bytes(replace(header, tensors=(*header.tensors, replace(table, name="output.weight")))) == 0


def test_a_plan_tells_it_of_a_real_load(smollm2: Path, header: Header) -> None:
    plan = make_plan(smollm2, Options(n_ctx=512))
    assert plan.more_weights == more_weights(header, plan)
    if devices.has_matrix_unit():
        assert "a second time" in plan.more_weights


def test_the_estimate_of_a_list_counts_what_a_matrix_unit_keeps(
    header: Header, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(n_ctx=512)
    monkeypatch.setattr(devices, "has_matrix_unit", lambda: False)
    plain = bytes_on_cpu(header, options)
    monkeypatch.setattr(devices, "has_matrix_unit", lambda: True)
    assert bytes_on_cpu(header, options) == plain + table_bytes(header)


def test_the_weights_of_a_sample_are_those_of_the_plan() -> None:
    cpu = DeviceMemory("CPU", "cpu", 120, 0, 0, 1, 1)
    sample = MemorySample(100, 20, 0, 0, 0, 0, 0, 0, (cpu,), weights_copied=90)
    assert (sample.weights, sample.weights_in_place, sample.weights_held) == (120, 30, 110)
    assert replace(sample, weights_resident=None).weights_held == 120
    assert replace(sample, weights_mapped=0, weights_resident=0, weights_copied=0).weights_held == 120
