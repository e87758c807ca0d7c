"""What a model will use on each device, in bytes, before anything is loaded; and the settings that were left open.

The numbers come from a simulated load: llama.cpp builds the model and its context without allocating, and its own
ledger is read. Where the ledger cannot be read, formulas take over and `exact` is False.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

from localllm.errors import BadModelFile, DoesNotFit
from localllm.gguf_file import Header, read_header
from localllm.native import devices, handles, ledger, lib
from localllm.runtime import estimate
from localllm.runtime.memory import by_device
from localllm.runtime.types import DeviceMemory, Options, Plan, needs

DEFAULT_CTX = 8192
SMALLEST_CTX = 2048
"""A context that the person left open is chosen between these, and never above what the model was trained with."""

LARGEST_MARGIN = 512 << 20
"""Bytes left free when the number of layers is chosen, or a sixteenth of a small device: others need some too."""


def make_plan(path: Path, options: Options | None = None) -> Plan:
    """Plan loading the GGUF at `path`. Loads nothing; takes some tenths of a second.

    A context or layer count that `options` leave open is chosen: the context is `DEFAULT_CTX` or what the model was
    trained with, halved down to `SMALLEST_CTX` while it does not fit; the layers as many as fit on the GPUs.

    Raises:
        ModelNotFound, BadModelFile, UnsupportedModel: the file cannot be run.
        DoesNotFit: layers were asked for and no device takes them.
    """
    options = options or Options()
    header = read_header(path)
    _check_runs(header)
    trained = header.context_length or DEFAULT_CTX
    notes = []
    if options.n_ctx > trained:
        notes.append(
            f"The context of {options.n_ctx:,} tokens is beyond the {trained:,} that the model was trained with: "
            "expect worse answers past it."
        )
    wanted = options.n_ctx or min(trained, DEFAULT_CTX)
    options = replace(options, threads=options.threads or devices.usable_threads())
    plan = _with_layers(header, replace(options, n_ctx=wanted))
    while not plan.fits and not options.n_ctx and plan.n_ctx // 2 >= SMALLEST_CTX:
        plan = _with_layers(header, replace(options, n_ctx=plan.n_ctx // 2))
    if plan.n_ctx < min(wanted, trained):
        notes.append(f"The context is {plan.n_ctx:,} tokens, not {wanted:,}, because more does not fit in memory now.")
    return replace(plan, notes=(*plan.notes, *notes))


def plan_quickly(path: Path, options: Options) -> Plan:
    """`make_plan` for a load that follows at once, whose own ledger will be exact.

    A simulated load reads the vocabulary a second time, half a second for a large one. It is left out where nothing is
    to choose and the formulas see room for twice what is needed: on the CPU, with plenty of memory.
    """
    header = read_header(path)
    trained = header.context_length or DEFAULT_CTX
    present = devices.devices(options.workers)
    nothing_to_choose = not options.gpu_layers and not any(device.offloads for device in present)
    # The formulas do not know what the matrix unit's own order of the weights takes.
    if (
        devices.has_matrix_unit()
        or not nothing_to_choose
        or options.n_ctx > trained
        or header.integer("split.count") > 1
    ):
        return make_plan(path, options)
    _check_runs(header)
    chosen = replace(
        options,
        n_ctx=options.n_ctx or min(trained, DEFAULT_CTX),
        threads=options.threads or devices.usable_threads(),
        gpu_layers=0,
    )
    uses, layers, _ = _estimated(header, chosen)
    parts = by_device(uses, layers, present)
    if any(2 * needs(device) > device.free for device in parts):
        return make_plan(path, options)
    return Plan(path, chosen, parts, exact=False)


def check_fits(plan: Plan) -> None:
    """Refuse a plan that does not fit.

    Raises:
        DoesNotFit: names the device, what it needs and has, and the largest context that would fit.
    """
    for device in plan.devices:
        need = needs(device)
        if need <= device.free:
            continue
        raise DoesNotFit(
            f"{plan.path.name} needs {mib(need)} on {device.name} (weights {mib(device.weights)}, KV cache "
            f"{mib(device.kv)} for {plan.n_ctx:,} tokens, compute {mib(device.compute)}); {mib(device.free)} are free.",
            hint=_what_fits(plan, device),
        )


def mib(size: int) -> str:
    """Bytes for people, in MiB or GiB."""
    return f"{size / (1 << 30):,.2f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):,.1f} MiB"


def _what_fits(plan: Plan, device: DeviceMemory) -> str:
    """What to change so that the part of `device` fits: the largest context, if a smaller one is enough."""
    header = read_header(plan.path)

    def need(n_ctx: int) -> int:
        smaller = _simulated(header, replace(plan.options, n_ctx=n_ctx))
        return next(needs(part) for part in smaller.devices if part.name == device.name)

    low, high = 0, plan.n_ctx // 256
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if need(middle * 256) <= device.free else (low, middle - 1)
    if low:
        smaller = " A KV cache in q8_0 (--kv-type) is half of f16." if plan.options.kv_type in _WIDE_KV else ""
        return f"The largest context that fits: --ctx {low * 256}.{smaller}"
    if device.kind != "cpu":
        return "Put fewer layers on it with --gpu-layers, or leave that to `--gpu-layers auto`."
    return "Even the smallest context is too much: choose a smaller quantization or model, or close other programs."


def _check_runs(header: Header) -> None:
    if header.architecture == "" or not (header.tensors or header.integer("split.count") > 1):
        raise BadModelFile(
            f"{header.path} holds no model: it has {len(header.tensors)} tensors and "
            f"{'no architecture' if not header.architecture else 'architecture ' + header.architecture}.",
            hint="It may be a vocabulary, an adapter or an importance matrix.",
        )
    if not 1 <= header.n_layer <= _MOST_LAYERS:
        raise BadModelFile(f"{header.path}: {header.architecture}.block_count is {header.n_layer}; it runs 1 to 512.")


def _with_layers(header: Header, options: Options) -> Plan:
    """The plan with `gpu_layers` chosen if it was left open."""
    gpus = devices.offload_devices(devices.devices(options.workers))
    if not gpus:
        if options.gpu_layers:
            raise DoesNotFit(
                f"{options.gpu_layers} layers were asked for on a GPU, but this build of llama.cpp sees none.",
                hint="Leave out --gpu-layers to run on the CPU. In a checkout `tools/install` says what a GPU needs.",
            )
        return _simulated(header, replace(options, gpu_layers=0))
    if options.gpu_layers is not None:
        return _simulated(header, replace(options, gpu_layers=min(options.gpu_layers, header.n_layer + 1)))
    return _most_layers(header, options)


def _most_layers(header: Header, options: Options) -> Plan:
    """The plan with the most layers that leave a margin free on every GPU: by bisection, the fit is monotone."""
    low, high, best = 0, header.n_layer + 1, None
    while low < high or best is None:
        middle = high if best is None else (low + high + 1) // 2
        plan = _simulated(header, replace(options, gpu_layers=middle))
        roomy = all(needs(device) + _margin(device) <= device.free for device in plan.devices if device.kind != "cpu")
        if roomy or middle == 0:
            low, best = middle, plan
        else:
            high = middle - 1
            best = best or _simulated(header, replace(options, gpu_layers=0))
    return best


def _margin(device: DeviceMemory) -> int:
    return min(LARGEST_MARGIN, device.total // 16)


_WIDE_KV = ("f32", "f16", "bf16")

# LLAMA_MAX_LAYERS of llama.cpp.
_MOST_LAYERS = 512

# A simulated load allocates no cells of the KV cache but does keep books on each: gigabytes for a context that large.
_LARGEST_SIMULATED = 1 << 22

# libllama prints which layer goes where while it loads; two threads at once would mix their lines.
_simulation = threading.Lock()


@functools.lru_cache(maxsize=64)
def _simulate(
    path: Path, _stamp: tuple[int, int], options: Options
) -> tuple[tuple[ledger.BufferUse, ...], dict[str, int], int]:
    """(buffers, layers per device, context) of a load that allocates nothing. Cached by the file's size and time."""
    with (
        _simulation,
        lib.captured_log() as lines,
        handles.open_model(
            path, gpu_layers=options.gpu_layers or 0, devices=offload_handles(options), simulate=True
        ) as model,
    ):
        context = handles.open_context(
            model,
            n_ctx=options.n_ctx,
            n_batch=options.n_batch,
            n_ubatch=options.n_ubatch,
            sequences=options.sequences,
            threads=1,
            kv_type=options.kv_type,
            flash_attention=options.flash_attention,
        )
        try:
            return tuple(ledger.read(context.pointer)), layers_by_device(lines), context.n_ctx
        finally:
            context.close()


def offload_handles(options: Options) -> list[int]:
    """ggml's pointers to the devices over which a model with these options is split."""
    return [device.handle for device in devices.offload_devices(devices.devices(options.workers))]


def layers_by_device(lines: list[str]) -> dict[str, int]:
    """How many layers each device runs, the output layer included, from the log of a load."""
    found = [line.split("assigned to device ")[1] for line in lines if "assigned to device " in line]
    return dict(Counter(rest.split(",")[0].strip() for rest in found))


def _estimated(header: Header, options: Options) -> tuple[tuple[ledger.BufferUse, ...], dict[str, int], int]:
    present = devices.devices(options.workers)
    cpu = next(device.name for device in present if device.kind == "cpu")
    return estimate.buffers(header, options, cpu, [device.name for device in devices.offload_devices(present)])


def _simulated(header: Header, options: Options) -> Plan:
    exact = ledger.supported() and options.n_ctx <= _LARGEST_SIMULATED
    if exact:
        status = header.path.stat()
        key = replace(
            options, mmap=True, mlock=False, threads=0, kv_ram=0, kv_disk=0, window="stop", retry_locally=False
        )
        uses, layers, n_ctx = _simulate(header.path, (status.st_size, status.st_mtime_ns), key)
    else:
        uses, layers, n_ctx = _estimated(header, options)
    return Plan(
        path=header.path,
        options=replace(options, n_ctx=n_ctx, gpu_layers=options.gpu_layers or 0),
        devices=by_device(uses, layers, devices.devices(options.workers)),
        exact=exact,
    )
