"""What fills each device, part by part, from a sample: what the bars of the memory screen are drawn of.

Pure arithmetic; knows nothing of widgets.
"""

from __future__ import annotations

from dataclasses import dataclass

from localllm.runtime.types import DeviceMemory, MemorySample
from localllm.tui.amounts import size
from localllm.tui.vitals import Machine


@dataclass(frozen=True)
class Part:
    """A part of a device's memory, in bytes, with what it says in words. `name` says which kind."""

    name: str
    bytes: int
    said: str


@dataclass(frozen=True)
class Layers:
    """The layers `begin` to before `end` run on the device; the output layer is the last of all."""

    device: str
    begin: int
    end: int


def parts_of(device: DeviceMemory, sample: MemorySample, machine: Machine) -> list[Part]:
    """The parts of a device, those that are empty left out, free memory last. They add up to what the device has.

    Pages of the model file count as available to the system, for it can take them back: they are shown as weights, as
    those are that were copied out of it.
    """
    share = device.kv / sample.kv_allocated if sample.kv_allocated else 0.0
    kv_used = round(sample.kv_used * share)
    whole = f"of {size(device.kv)}" if kv_used else f"KV cache {size(device.kv)}, empty"
    kv = [
        Part("kv", kv_used, f"KV cache {size(kv_used)} in use"),
        Part("kv-empty", device.kv - kv_used, whole),
        Part("compute", device.compute, f"compute {size(device.compute)}"),
    ]
    if device.kind != "cpu":
        weights = [Part("weights", device.weights, f"weights {size(device.weights)}")]
        used, total, free = device.total - device.free, device.total, device.free
        rest: list[Part] = []
    else:
        elsewhere = sum(other.weights for other in sample.devices if other.kind != "cpu")
        copied = min(device.weights, max(0, sample.weights_copied - elsewhere))
        resident = sample.weights_mapped if sample.weights_resident is None else sample.weights_resident
        mapped = min(device.weights - copied, resident)
        of = f" in RAM of {size(device.weights)}" if mapped + copied < device.weights else ""
        copies = f", {size(copied)} copied from the file" if copied else ""
        weights = [Part("weights", mapped + copied, f"weights {size(mapped + copied)}{of}{copies}")]
        other = sample.process - mapped - copied - device.kv - device.compute - sample.states
        rest = [
            Part("states", sample.states, f"chats kept in RAM {size(sample.states)}"),
            Part("engine", max(0, other), f"engine besides {size(max(0, other))}"),
            Part("app", machine.app, f"app {size(machine.app)}"),
        ]
        total, free = sample.system_total, max(0, sample.system_available - mapped)
        used = total - free
    ours = [*weights, *kv, *rest]
    others = max(0, used - sum(part.bytes for part in ours))
    found = [*ours, Part("others", others, f"others {size(others)}"), Part("free", free, f"free {size(free)}")]
    return [part for part in found if part.bytes > 0 and total]


def layer_map(devices: tuple[DeviceMemory, ...]) -> list[Layers]:
    """Which layers are where, as llama.cpp puts them: the first on the CPU, the others on its devices in order."""
    places, at = [], 0
    for device in sorted(devices, key=lambda device: device.kind != "cpu"):
        if device.layers:
            places.append(Layers(device.name, at, at + device.layers))
            at += device.layers
    return places


def columns(parts: list[Part], width: int) -> list[int]:
    """How many of `width` columns each part gets: in proportion, one at least, all together `width`."""
    whole = sum(part.bytes for part in parts)
    if not whole or width < len(parts):
        return [0] * len(parts)
    shares = [max(1, round(part.bytes / whole * width)) for part in parts]
    while (over := sum(shares) - width) != 0:
        largest = max(range(len(shares)), key=lambda index: shares[index])
        shares[largest] -= 1 if over > 0 else -1
    return shares
