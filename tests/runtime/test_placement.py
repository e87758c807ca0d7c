"""Where layers go: shared by free memory, filled from the back, experts to RAM first. Workers stand in for GPUs."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from localllm.errors import DoesNotFit
from localllm.native import devices
from localllm.runtime import apart
from localllm.runtime.estimate import shares
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.placement import largest
from localllm.runtime.plan import SMALLEST_CTX, check_fits, make_plan
from localllm.runtime.process import ModelProcess
from localllm.runtime.types import DeviceMemory, Message, Plan, needs
from tests.runtime.conftest import GREEDY
from tests.runtime.tiny_moe import LAYERS, tiny_moe
from tests.workers import Running, worker

QUESTION = [Message("user", "Name the capital of France.")]
MIB = 1 << 20


def _room(part: DeviceMemory) -> int:
    """What is left on the device, less the margin."""
    return part.free - needs(part) - min(512 * MIB, part.total // 16)


def test_the_largest_that_fits_is_found_in_few_steps() -> None:
    draw = random.Random(7)
    for _ in range(300):
        high = draw.randrange(0, 200)
        sizes = [draw.randrange(50, 150) for _ in range(high)]
        fixed, budget = draw.randrange(0, 300), draw.randrange(0, 25_000)
        asked: list[int] = []

        def excess(
            count: int,
            asked: list[int] = asked,
            sizes: Sequence[int] = sizes,
            fixed: int = fixed,
            budget: int = budget,
        ) -> int:
            asked.append(count)
            return fixed + sum(sizes[:count]) - budget

        fits = [count for count in range(1, high + 1) if excess(count) <= 0]
        asked.clear()
        assert largest(high, excess) == max(fits, default=0)
        assert len(asked) <= 12


@pytest.mark.parametrize(
    ("layers", "proportions", "counts"),
    [
        (31, [1], [31]),
        (31, [1, 1], [16, 15]),
        (32, [3, 1], [24, 8]),
        (31, [0, 5], [0, 31]),
        (7, [2, 0, 5], [2, 0, 5]),
        (0, [1, 1], [0, 0]),
        (1, [1, 9], [1, 0]),
    ],
)
def test_layers_are_shared_by_proportions(layers: int, proportions: list[float], counts: list[int]) -> None:
    assert shares(layers, proportions) == counts


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Running, Running]]:
    """Two workers that lend 60 and 120 MiB."""
    with worker("--memory", "60MiB") as small, worker("--memory", "120MiB") as large:
        yield small, large


def _options(pair: tuple[Running, Running], **settings: object) -> Options:
    workers = tuple(running.endpoint for running in pair)
    return Options(**{"n_ctx": 512, "mmap": False, "workers": workers, **settings})  # type: ignore[arg-type]


def _sizes(plan: Sequence[DeviceMemory]) -> list[tuple[object, ...]]:
    return [(part.name, part.weights, part.kv, part.compute, part.layers) for part in plan]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"gpu_layers": 12}, {"split": (1.0, 3.0), "gpu_layers": 8}])
def test_two_workers_share_the_layers(
    pair: tuple[Running, Running], smollm2: Path, model: Model, settings: dict[str, object]
) -> None:
    plan = apart.plan(smollm2, _options(pair, **settings))
    small, large, cpu = plan.devices
    assert plan.fits
    assert small.layers + large.layers == plan.gpu_layers == settings.get("gpu_layers", plan.gpu_layers)
    assert plan.options.split == (small.layers, large.layers)
    if "split" in settings:
        assert (small.layers, large.layers) == (2, 6)
    elif "gpu_layers" in settings:
        assert (small.layers, large.layers) == (4, 8)
    else:
        assert cpu.layers == 31 - plan.gpu_layers
        assert _room(small) >= 0
        assert _room(large) >= 0
    with ModelProcess.load(smollm2, plan.options) as remote:
        took = remote.memory().devices
        if plan.exact:
            assert _sizes(took) == _sizes(plan.devices)
        else:  # whole on both
            spare = plan.options.n_ubatch * 576 * 4
            pairs = zip(took, plan.devices, strict=True)
            assert all(needs(real) <= needs(part) <= needs(real) + spare for real, part in pairs)
        assert plan.exact == (cpu.layers > 0)
        assert ("RPC1" in plan.estimate) == (not plan.exact)
        assert not remote.notes
        assert "".join(remote.reply(QUESTION, sampling=GREEDY)) == "".join(model.reply(QUESTION, sampling=GREEDY))


@pytest.mark.slow
def test_the_most_layers_fill_the_devices_from_the_back(pair: tuple[Running, Running], smollm2: Path) -> None:
    full = apart.plan(smollm2, _options(pair, n_ctx=4096))
    assert 0 < full.gpu_layers < 31
    for index in range(2):
        assert _room(full.devices[index]) >= 0
        counts = [int(share) + (place == index) for place, share in enumerate(full.options.split)]
        more = apart.plan(smollm2, _options(pair, n_ctx=4096, gpu_layers=sum(counts), split=tuple(counts)))
        assert _room(more.devices[index]) < 0


@pytest.mark.slow
def test_an_open_context_shrinks_for_a_model_that_is_whole_on_the_devices(
    pair: tuple[Running, Running], smollm2: Path
) -> None:
    narrow = {"n_batch": 128, "n_ubatch": 128}
    fixed, free = (apart.plan(smollm2, _options(pair, n_ctx=n_ctx, **narrow)) for n_ctx in (8192, 0))
    assert fixed.gpu_layers < 31
    assert free.gpu_layers == 31
    assert SMALLEST_CTX <= free.n_ctx < 8192
    assert "8,192" in free.notes[0]
    more = apart.plan(smollm2, replace(free.options, n_ctx=free.n_ctx + 256))
    assert min(_room(part) for part in more.devices[:2]) < 0


@pytest.mark.slow
def test_what_was_asked_for_and_does_not_fit_is_refused_with_what_would(
    pair: tuple[Running, Running], smollm2: Path
) -> None:
    options = _options(pair, n_ctx=8192, gpu_layers=31)
    plan = apart.plan(smollm2, options)
    assert plan.gpu_layers == 31
    with pytest.raises(DoesNotFit, match="on RPC") as caught:
        check_fits(plan)
    would = apart.plan(smollm2, _options(pair, n_ctx=8192))
    assert f"--gpu-layers {would.gpu_layers}" in caught.value.hint
    assert "--ctx" in caught.value.hint
    with pytest.raises(DoesNotFit):
        ModelProcess.load(smollm2, options)


@pytest.mark.slow
def test_a_device_that_is_left_out_may_be_full(pair: tuple[Running, Running], smollm2: Path) -> None:
    with worker("--memory", "1MiB") as full:
        plan = apart.plan(smollm2, _options((full, pair[1]), split=(0.0, 1.0)))
        assert plan.options.split == (0, plan.gpu_layers)
        assert 0 < plan.gpu_layers < 31
        assert apart.plan(smollm2, _options((full, pair[1]))).gpu_layers == plan.gpu_layers


@pytest.mark.slow
def test_a_split_has_a_part_for_each_device(pair: tuple[Running, Running], smollm2: Path) -> None:
    with pytest.raises(DoesNotFit, match="3 parts, and there are 2 devices: RPC0, RPC1"):
        apart.plan(smollm2, _options(pair, split=(1.0, 1.0, 1.0)))
    with pytest.raises(DoesNotFit, match="sees none"):
        make_plan(smollm2, Options(split=(1.0,)))


def test_there_are_only_so_many_devices(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [devices.Device(f"GPU{number}", "a GPU", "gpu", MIB, MIB, 0) for number in range(16)]
    monkeypatch.setattr(devices, "offload_devices", lambda _present: many)
    with pytest.raises(DoesNotFit, match="15 devices at most; there are 16"):
        make_plan(smollm2)


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_moe(tmp_path_factory.mktemp("moe"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lent", "layers", "in_ram"), [("20MiB", 9, 0), ("6MiB", 9, 2), ("1MiB", 9, 8), ("300KiB", 4, 8)]
)
def test_experts_leave_the_device_before_the_rest_does(moe: Path, lent: str, layers: int, in_ram: int) -> None:
    options = Options(n_ctx=256, n_batch=32, n_ubatch=32, mmap=False)
    with worker("--memory", lent) as running:
        wanted = replace(options, workers=(running.endpoint,))
        plan = apart.plan(moe, wanted)
        assert plan.fits
        assert (plan.gpu_layers, plan.options.cpu_moe) == (layers, in_ram)
        with ModelProcess.load(moe, wanted) as remote:
            assert _sizes(remote.memory().devices) == _sizes(plan.devices)
            theirs = "".join(remote.complete("The sea", sampling=GREEDY, max_tokens=8))
        expert_bytes = _experts(plan, apart.plan(moe, replace(wanted, cpu_moe=LAYERS)))
        assert (expert_bytes > 0) == (in_ram < LAYERS)
    with Model.load(moe, options) as model:
        assert theirs == "".join(model.complete("The sea", sampling=GREEDY, max_tokens=8))


def _experts(plan: Plan, bare: Plan) -> int:
    """Bytes of experts on the worker: what it holds more than with all of them in RAM."""
    return plan.devices[0].weights - bare.devices[0].weights


@pytest.mark.slow
def test_experts_stay_where_they_are_asked_to(moe: Path) -> None:
    options = Options(n_ctx=256, n_batch=32, n_ubatch=32)
    with worker() as running:
        sizes = [
            apart.plan(moe, replace(options, workers=(running.endpoint,), cpu_moe=count)) for count in (0, 3, LAYERS)
        ]
    none, three, all_of_them = (plan.devices[0].weights for plan in sizes)
    assert (none - three) * LAYERS == (none - all_of_them) * 3
    assert all(plan.gpu_layers == LAYERS + 1 for plan in sizes)
