"""What a load with other settings would take, in words, and the settings worth asking about.

Pure; the plans are made by the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from localllm.runtime.options import Options
from localllm.runtime.types import ModelInfo, Plan, needs
from localllm.tui.amounts import size, tokens

SMALLEST_CTX = 512
KV_CHOICES = ("f16", "q8_0", "q4_0")
"""KV types worth a try: whole, half and a quarter of the bytes."""

Name = Literal["gpu_layers", "n_ctx", "kv_type"]


@dataclass(frozen=True)
class Knob:
    """A setting and its choices in order, of which number `at` is taken."""

    name: Name
    title: str
    choices: tuple[int | str, ...]
    at: int

    @property
    def value(self) -> int | str:
        """What is taken."""
        return self.choices[self.at]

    def turned(self, step: int) -> Knob:
        """The next choice, or the one before; the last and the first stay."""
        return replace(self, at=min(max(0, self.at + step), len(self.choices) - 1))


def knobs(info: ModelInfo, loaded: Plan) -> list[Knob]:
    """What can be turned of what is loaded: layers only where a device could take them."""
    found = [
        _knob("n_ctx", "context", _contexts(loaded.n_ctx, info.n_ctx_train), loaded.n_ctx),
        _knob(
            "kv_type", "KV type", tuple(dict.fromkeys([*KV_CHOICES, loaded.options.kv_type])), loaded.options.kv_type
        ),
    ]
    if any(device.kind != "cpu" for device in loaded.devices):
        found.insert(0, _knob("gpu_layers", "GPU layers", tuple(range(info.n_layer + 2)), loaded.gpu_layers))
    return found


def _knob(name: Name, title: str, choices: tuple[int | str, ...], value: int | str) -> Knob:
    return Knob(name, title, choices, choices.index(value))


def _contexts(n_ctx: int, trained: int) -> tuple[int, ...]:
    sizes = {n_ctx, trained or n_ctx}
    smaller = larger = n_ctx
    while (smaller := smaller // 2) >= SMALLEST_CTX:
        sizes.add(smaller)
    while (larger := larger * 2) < trained:
        sizes.add(larger)
    return tuple(sorted(sizes))


def options_of(loaded: Plan, turned: Sequence[Knob]) -> Options:
    """The options of what is loaded with what was turned; the split over devices is open if the layers change.

    Raises:
        ValueError: such settings do not go together.
    """
    values = {knob.name: knob.value for knob in turned}
    split = loaded.options.split if values.get("gpu_layers", loaded.gpu_layers) == loaded.gpu_layers else ()
    return replace(loaded.options, **values, split=split)  # type: ignore[arg-type]


def told(loaded: Plan, plan: Plan) -> list[str]:
    """What `plan` takes beside what is loaded: a line for each device, whether it fits, and why weights take
    more than in the file."""
    before = {device.name: needs(device) for device in loaded.devices}
    lines = [
        f"{device.name}: weights {size(device.weights)} · KV cache {size(device.kv)} · compute {size(device.compute)}"
        f" · {_signed(needs(device) - before.get(device.name, 0))}"
        for device in plan.devices
        if needs(device) or before.get(device.name)
    ]
    fits = "fits" if plan.fits_instead_of(loaded) else "does not fit now"
    exact = "" if plan.exact else ", an estimate"
    lines.append(f"{size(plan.total)} in all, {_signed(plan.total - loaded.total)}: {fits}{exact}")
    return [*lines, plan.more_weights] if plan.more_weights else lines


def _signed(count: int) -> str:
    return "as now" if count == 0 else f"{'+' if count > 0 else '−'}{size(abs(count))}"


def shown(value: int | str) -> str:
    """A choice as people read it."""
    return tokens(value) if isinstance(value, int) else value
