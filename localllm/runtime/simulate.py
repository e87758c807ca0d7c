"""What a load would take, with settings that leave nothing open: by a load that allocates nothing, or by formulas.

llama.cpp builds the model and its context without allocating, and its own ledger is read. Where the ledger cannot be
read, formulas take over and `exact` of the plan is False.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

from localllm.errors import LocalLLMError
from localllm.gguf_file import Header
from localllm.native import devices, ledger, lib, log
from localllm.runtime import estimate
from localllm.runtime.context import open_context
from localllm.runtime.memory import by_device
from localllm.runtime.opening import open_model
from localllm.runtime.options import Options
from localllm.runtime.skeleton import skeleton
from localllm.runtime.types import Plan

# A simulated load allocates no cells of the KV cache but does keep books on each: gigabytes for a context that large.
_LARGEST_SIMULATED = 1 << 22

# libllama prints which layer goes where while it loads; two threads at once would mix their lines.
_simulation = threading.Lock()

Found = tuple[tuple[ledger.BufferUse, ...], dict[str, int], int]
"""Buffers, layers by device, context."""

_known: dict[tuple[Path, int, int, Options], Found] = {}
"""What was found for a file, by its size and time, and options."""

_MOST_KNOWN = 256


def simulated(header: Header, options: Options) -> Plan:
    """The plan for settings with nothing open. Memory of the devices is as it is now.

    For a model that is whole on several devices it is a bound. llama.cpp then computes the first norm of a device there
    and not on the device before, which a simulation forgets: the activations of one ubatch more.
    """
    present = devices.devices(options.workers)
    elsewhere = devices.are_assumed()
    read = ledger.supported() and options.n_ctx <= _LARGEST_SIMULATED
    read = read and not (elsewhere and devices.offload_devices(present))
    uses, layers, n_ctx = _simulated(header, options) if read else estimated(header, options)
    parts = by_device(uses, layers, present)
    why = "" if read else f"All sizes are estimates, made by formulas: {_why_not_read(options)}."
    if read and elsewhere:
        why = "The weights are an estimate: another processor may keep some of them in an order of its own."
    behind = [part.name for part in parts if part.kind != "cpu" and part.layers][1:]
    if behind and (options.gpu_layers or 0) > header.n_layer:
        why = (
            why
            or f"What {' and '.join(behind)} compute with is a bound: a simulated load is short of activations there."
        )
        extra = options.n_ubatch * header.integer("{arch}.embedding_length") * 4
        parts = tuple(replace(part, compute=part.compute + extra * (part.name in behind)) for part in parts)
    return Plan(
        path=header.path,
        options=replace(options, n_ctx=n_ctx, gpu_layers=options.gpu_layers or 0, cpu_moe=options.cpu_moe or 0),
        devices=parts,
        exact=not why,
        estimate=why,
    )


def _why_not_read(options: Options) -> str:
    if not ledger.supported():
        return "llama.cpp's own ledger cannot be read on this platform"
    if devices.are_assumed():
        return "a load is not simulated for the devices of another machine"
    return f"a context of {options.n_ctx:,} tokens is too large to simulate a load"


def estimated(header: Header, options: Options) -> Found:
    """The same by formulas."""
    present = devices.devices(options.workers)
    cpu = next(device.name for device in present if device.kind == "cpu")
    return estimate.buffers(header, options, cpu, [device.name for device in devices.offload_devices(present)])


def layers_by_device(lines: list[str]) -> dict[str, int]:
    """How many layers each device runs, the output layer included, from the log of a load."""
    found = [line.split("assigned to device ")[1] for line in lines if "assigned to device " in line]
    return dict(Counter(rest.split(",")[0].strip() for rest in found))


def _simulated(header: Header, options: Options) -> Found:
    status = header.path.stat()
    # Only what the ledger depends on, so that nothing else makes a second entry in the cache.
    key = Options(
        n_ctx=options.n_ctx,
        threads=1,
        gpu_layers=options.gpu_layers,
        kv_type=options.kv_type,
        n_batch=options.n_batch,
        n_ubatch=options.n_ubatch,
        flash_attention=options.flash_attention,
        sequences=options.sequences,
        workers=options.workers,
        split=options.split,
        cpu_moe=options.cpu_moe,
        draft="ngram" if options.guesses else "",
    )
    known = (header.path, status.st_size, status.st_mtime_ns, key)
    if known not in _known:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[known] = _simulate(header, key)
    return _known[known]


def _simulate(header: Header, options: Options) -> Found:
    # Apart: llama.cpp logs while it frees a context, too, and Ctrl-C would be lost in that callback.
    with skeleton(header) as path:
        try:
            return lib.apart(lambda: _load_nothing(path, options))
        except LocalLLMError:
            if path == header.path:
                raise
    return lib.apart(lambda: _load_nothing(header.path, options))  # whose name is in the message


def _load_nothing(path: Path, options: Options) -> Found:
    """What llama.cpp would allocate for the model at `path`."""
    with (
        _simulation,
        log.captured() as lines,
        open_model(path, options, simulate=True) as model,
    ):
        context = open_context(model, options)
        try:
            return tuple(ledger.read(context.pointer)), layers_by_device(lines), context.n_ctx
        finally:
            context.close()
