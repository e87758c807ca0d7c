"""Where the memory goes: parts, layers, the last minutes, warnings, and what other settings would take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.pilot import Pilot

from localllm.errors import DoesNotFit
from localllm.runtime.options import Options
from localllm.runtime.types import DeviceMemory, MemorySample, Plan
from localllm.tui import sampler
from localllm.tui.memory_parts import columns, layer_map, parts_of
from localllm.tui.vitals import GROWTH_BYTES, Machine, SwapWatch, machine
from localllm.tui.what_if import knobs, options_of, told
from localllm.tui.widgets.memory_map import sparkline
from tests.tui.driving import OpenApp, ask, screen_text, wait_until
from tests.tui.fake import GIB, INFO, PLAN, FakeResponder, Garage
from tests.tui.pictures import check

MIB = 1 << 20
GPU = DeviceMemory("CUDA0", "gpu", 3 * GIB, GIB, 100 * MIB, 3 * GIB, 8 * GIB, 15)
CPU = DeviceMemory("CPU", "cpu", 2 * GIB, GIB, 50 * MIB, 10 * GIB, 16 * GIB, 10)
SAMPLE = MemorySample(
    2 * GIB, GIB, GIB, 2 * GIB, 150 * MIB, 3 * GIB, 10 * GIB, 16 * GIB, (CPU, GPU), states=100 * MIB, snapshots=GIB
)
NOW = Machine(available=12 * GIB, total=16 * GIB, swap_used=0, app=80 * MIB, taken=0.0)


@pytest.fixture(autouse=True)
def _steady_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "machine", lambda: NOW)


@pytest.mark.parametrize("device", [CPU, GPU])
def test_the_parts_of_a_device_add_up_to_it(device: DeviceMemory) -> None:
    parts = {part.name: part.bytes for part in parts_of(device, SAMPLE, NOW)}
    assert sum(parts.values()) == device.total
    assert (parts["kv"], parts["kv-empty"]) == (GIB // 2, GIB // 2)
    if device is CPU:
        assert parts["weights"] == GIB
        assert parts["free"] == 9 * GIB
        assert parts["app"] == 80 * MIB
        assert parts["engine"] == 3 * GIB - GIB - GIB - 50 * MIB - 100 * MIB
    else:
        assert parts["free"] == 3 * GIB


def test_weights_that_were_copied_stand_beside_those_that_are_mapped() -> None:
    copied = replace(SAMPLE, weights_copied=GPU.weights + GIB, weights_resident=GIB // 2)
    parts = {part.name: part.bytes for part in parts_of(CPU, copied, NOW)}
    assert parts["weights"] == GIB + GIB // 2
    assert parts["free"] == 10 * GIB - GIB // 2
    assert sum(parts.values()) == CPU.total
    assert "weights 1.50 GiB in RAM of 2.00 GiB, 1.00 GiB copied from the file" in said(copied)


def test_an_empty_kv_cache_is_named() -> None:
    empty = said(replace(SAMPLE, kv_used=0))
    assert "KV cache 1.00 GiB, empty" in empty
    assert "of 1.00 GiB" not in empty


def said(sample: MemorySample) -> list[str]:
    return [part.said for part in parts_of(CPU, sample, NOW)]


def test_columns_are_in_proportion_and_no_part_is_hidden() -> None:
    parts = parts_of(CPU, SAMPLE, NOW)
    for width in (12, 40, 156):
        shares = columns(parts, width)
        assert sum(shares) == width
        assert min(shares) >= 1
    assert columns(parts, 3) == [0] * len(parts)


def test_the_first_layers_are_on_the_cpu_and_the_last_on_the_last_device() -> None:
    places = layer_map((GPU, CPU))
    assert [(place.device, place.begin, place.end) for place in places] == [("CPU", 0, 10), ("CUDA0", 10, 25)]


def test_a_sparkline_keeps_to_its_width_and_shows_the_latest() -> None:
    assert sparkline([0, 1, 8], 5) == "   ▁█"[-5:].rjust(5)
    assert len(sparkline(range(500), 60)) == 60
    assert sparkline([], 4) == "    "
    assert sparkline([0, 0], 2) == "  "


def test_the_machine_is_warned_about_before_it_swaps_and_once() -> None:
    watch = SwapWatch()
    assert watch.look(NOW) == ""
    low = replace(NOW, available=300 * MIB, taken=1.0)
    assert "300.0 MiB left" in watch.look(low)
    assert watch.look(replace(low, taken=2.0)) == ""
    assert watch.look(replace(NOW, available=700 * MIB, taken=3.0)) == ""
    assert watch.look(replace(low, taken=4.0)) == "", "it hardly had room in between"
    assert watch.look(replace(NOW, taken=5.0)) == ""
    assert watch.look(replace(low, taken=6.0))


def test_swap_that_grows_is_told_and_swap_that_was_there_is_not() -> None:
    watch = SwapWatch()
    assert watch.look(replace(NOW, swap_used=4 * GIB)) == ""
    assert watch.look(replace(NOW, swap_used=4 * GIB + GROWTH_BYTES // 2, taken=100.0)) == ""
    assert "swapping" in watch.look(replace(NOW, swap_used=4 * GIB + 2 * GROWTH_BYTES, taken=101.0))


def test_the_real_machine_is_read() -> None:
    now = machine()
    assert 0 < now.available < now.total
    assert now.app > MIB


def test_only_what_a_device_could_take_can_be_turned() -> None:
    context, kv_type = knobs(INFO, PLAN)
    assert (context.value, kv_type.value) == (8192, "f16")
    assert context.turned(-1).value == 4096
    assert context.turned(1).value == 8192, "it was trained with no more"
    with_gpu = replace(PLAN, devices=(*PLAN.devices, GPU))
    layers, *_ = knobs(INFO, with_gpu)
    assert (layers.title, layers.value, layers.choices[-1]) == ("GPU layers", 0, INFO.n_layer + 1)


def test_settings_that_do_not_go_together_are_refused() -> None:
    loaded = replace(PLAN, options=replace(PLAN.options, flash_attention=False))
    _, kv_type = knobs(INFO, loaded)
    with pytest.raises(ValueError, match="needs flash attention"):
        options_of(loaded, [kv_type.turned(1)])


def test_a_plan_is_told_beside_what_is_loaded() -> None:
    def with_kv(kv: int) -> Plan:
        return replace(PLAN, devices=(replace(PLAN.devices[0], kv=kv),))

    assert told(PLAN, PLAN)[-1] == "931.6 MiB in all, as now: fits"
    assert "+200.0 MiB: fits" in told(PLAN, with_kv(400 << 20))[-1]
    assert "−100.0 MiB: fits" in told(PLAN, with_kv(100 << 20))[-1]
    assert told(PLAN, with_kv(64 * GIB))[-1].endswith("does not fit now")
    assert told(PLAN, replace(PLAN, more_weights="The table is there twice."))[-1] == "The table is there twice."


async def open_memory(pilot: Pilot[None]) -> None:
    await ask(pilot, "Capital of France?")
    await pilot.press("f9")
    await wait_until(pilot, lambda: "What if" in screen_text(pilot), "the memory screen")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 36), (160, 40)])
async def test_a_picture_of_the_screen(
    open_app: OpenApp, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeResponder, "memory", lambda _: SAMPLE)
    app = open_app()
    async with app.run_test(size=size, notifications=True) as pilot:
        await open_memory(pilot)
        await wait_until(pilot, lambda: "no model" not in screen_text(pilot))
        app.chat.watching.history.__init__()  # type: ignore[misc]
        await wait_until(pilot, lambda: app.chat.watching.history.lines()[0][1])
        await pilot.pause()
        check(pilot, "all-memory")


@pytest.mark.slow
async def test_a_smaller_context_is_planned_and_loaded(open_app: OpenApp) -> None:
    garage = Garage()
    app = open_app(garage=garage)
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await open_memory(pilot)
        await pilot.press("enter", "left")
        await wait_until(pilot, lambda: "−100.0 MiB: fits" in screen_text(pilot), "the plan")
        assert "‹ 4,096 ›   now 8,192" in screen_text(pilot)
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(garage.models) == 2)
        assert garage.models[1].wanted.options == replace(PLAN.options, n_ctx=4096)


@pytest.mark.slow
async def test_what_cannot_be_planned_says_why_and_is_not_loaded(
    open_app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FakeResponder, options: Options) -> Plan:
        raise DoesNotFit("No device takes layers.")

    garage = Garage()
    async with open_app(garage=garage).run_test(size=(100, 40), notifications=True) as pilot:
        await open_memory(pilot)
        monkeypatch.setattr(FakeResponder, "what_if", refuse)
        await pilot.press("down", "right")
        await wait_until(pilot, lambda: "No device takes layers." in screen_text(pilot))
        await pilot.press("enter", "escape")
        await wait_until(pilot, lambda: "What if" not in screen_text(pilot))
    assert len(garage.models) == 1


@pytest.mark.slow
async def test_a_machine_about_to_swap_is_told(open_app: OpenApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "machine", lambda: replace(NOW, available=200 * MIB))
    async with open_app().run_test(size=(120, 36), notifications=True) as pilot:
        await wait_until(pilot, lambda: "Memory is almost full" in screen_text(pilot))
