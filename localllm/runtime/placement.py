"""Which layers go to which device, for a context that is given: as many as fit, and experts to RAM before the rest.

Layers fill the devices from the back: the output layer is on the last of them, and what does not fit stays on the CPU.
Workers come first in llama.cpp's order, so the GPUs of this machine are full before a worker has to take more than its
share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from localllm.errors import DoesNotFit
from localllm.gguf_file import Header
from localllm.native import devices
from localllm.native.devices import Device
from localllm.runtime.estimate import shares
from localllm.runtime.options import Options
from localllm.runtime.simulate import simulated
from localllm.runtime.types import UNCOUNTED, DeviceMemory, Plan, needs

MOST_DEVICES = 15
"""GGML_SCHED_MAX_BACKENDS of ggml-backend.cpp without the CPU."""

LARGEST_MARGIN = 512 << 20
"""Bytes left free when something is chosen, or a sixteenth of a small device: others need some too."""


def place(header: Header, options: Options) -> Plan:
    """The plan with the layers, their split and the experts in RAM chosen, as far as `options` leave them open.

    Raises:
        DoesNotFit: layers or a split were asked for that no device takes.
    """
    offload = devices.offload_devices(devices.devices(options.workers))
    if not offload:
        _check_cpu_alone(options)
        return simulated(header, replace(options, gpu_layers=0, cpu_moe=0))
    if len(offload) > MOST_DEVICES:
        raise DoesNotFit(
            f"llama.cpp splits a model over {MOST_DEVICES} devices at most; there are {len(offload)}.",
            hint="Name fewer workers.",
        )
    if options.split and len(options.split) != len(offload):
        names = ", ".join(device.name for device in offload)
        raise DoesNotFit(
            f"The split has {len(options.split)} parts, and there are {len(offload)} devices: {names}.",
            hint="Give as many proportions as there are devices; 0 leaves one out.",
        )
    most = header.n_layer + 1
    layers = most if options.gpu_layers is None else min(options.gpu_layers, most)
    if options.split:
        return _by_proportions(header, options, layers)
    experts = header.integer("{arch}.expert_count") > 0
    plan = _fill(header, replace(options, cpu_moe=options.cpu_moe or 0), offload, layers)
    if plan.gpu_layers < layers and options.cpu_moe is None and experts:
        plan = _with_experts_in_ram(header, options, offload, layers)
    if plan.gpu_layers < layers and options.gpu_layers is not None:
        return _shared(header, options, offload, layers)  # what was asked for, and does not fit
    return plan


def margin(device: DeviceMemory | Device) -> int:
    """Bytes that a choice leaves free on the device."""
    return max(min(LARGEST_MARGIN, device.total // 16), UNCOUNTED if device.kind == "gpu" else 0)


def largest(high: int, excess: Callable[[int], int]) -> int:
    """The largest number from 0 to `high` with no `excess` (bytes over what there is), which grows about linearly.

    0 is taken for granted and to need nothing. Asks for few numbers, since each costs a simulated load.
    """
    over = excess(high) if high else 0
    if over <= 0:
        return high
    low, room = 0, 0
    while high - low > 1:
        guess = low + (high - low) * room // (room + over) if room else (low + high) // 2
        guess = min(max(guess, low + 1), high - 1)
        found = excess(guess)
        if found <= 0:
            low, room = guess, max(1, -found)
        else:
            high, over = guess, found
    return low


def _check_cpu_alone(options: Options) -> None:
    if options.gpu_layers or options.split:
        from localllm.native import accelerators

        unused = [] if devices.are_assumed() else accelerators.unused(devices.devices(), devices.backends())
        what = f"{options.gpu_layers} layers were" if options.gpu_layers else "A split over devices was"
        raise DoesNotFit(
            f"{what} asked for on a GPU, but this build of llama.cpp sees none.",
            hint="\n".join(
                [*map(str, unused), "Without --gpu-layers and --split (gpu_layers, split) it runs on the CPU."]
            ),
        )


def _excess(plan: Plan, names: Sequence[str]) -> int:
    """Bytes that the worst of the named devices lacks, its margin included; negative is what it has left.

    One that takes nothing lacks nothing, however full it is.
    """
    taking = [part for part in plan.devices if part.name in names and needs(part)]
    return max((needs(part) + margin(part) - part.free for part in taking), default=-1)


def _by_proportions(header: Header, options: Options, layers: int) -> Plan:
    """The split that was asked for, with as many layers as fit if their number is open."""

    def plan(count: int) -> Plan:
        return _split(header, options, shares(count, options.split))

    if options.gpu_layers is not None:
        return plan(layers)
    names = [part.name for part in plan(0).devices if part.kind != "cpu"]
    return plan(largest(layers, lambda count: _excess(plan(count), names)))


def _fill(header: Header, options: Options, offload: Sequence[Device], layers: int) -> Plan:
    """Up to `layers` layers: shared by free memory if they fit like that, else device by device from the back."""
    names = [device.name for device in offload]
    shared = _shared(header, options, offload, layers)
    if _excess(shared, names) <= 0:
        return shared
    counts = [0] * len(offload)
    for index in reversed(range(len(offload))):

        def excess(count: int, index: int = index) -> int:
            tried = [*counts[:index], count, *counts[index + 1 :]]
            return _excess(_split(header, options, tried), [names[index]])

        counts[index] = largest(layers - sum(counts), excess)
    return _split(header, options, counts)


def _shared(header: Header, options: Options, offload: Sequence[Device], layers: int) -> Plan:
    """All `layers` layers, shared by free memory."""
    free = [max(0, device.free - margin(device)) for device in offload]
    return _split(header, options, shares(layers, free if any(free) else [1] * len(free)))


def _split(header: Header, options: Options, counts: Sequence[int]) -> Plan:
    """So many layers on each device."""
    split = tuple(map(float, counts)) if any(counts) else ()
    return simulated(header, replace(options, gpu_layers=sum(counts), split=split))


def _with_experts_in_ram(header: Header, options: Options, offload: Sequence[Device], layers: int) -> Plan:
    """The experts of as few layers in RAM as let all `layers` fit; those of all, and fewer layers, if none do.

    A dense part is used for every token and an expert for few of them, so its place on the GPU is worth more.
    """

    def plan(on_gpu: int) -> Plan:
        """With the experts of the last `on_gpu` layers where their layers are."""
        return _fill(header, replace(options, cpu_moe=header.n_layer - on_gpu), offload, layers)

    names = [device.name for device in offload]

    def excess(on_gpu: int) -> int:
        found = plan(on_gpu)
        if found.gpu_layers == layers:
            return _excess(found, names)
        return max(1, _excess(_shared(header, found.options, offload, layers), names))

    bare = plan(0)
    if bare.gpu_layers < layers:
        return bare
    return plan(largest(header.n_layer, excess))
