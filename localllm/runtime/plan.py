"""What a model will use on each device, in bytes, before anything is loaded; and the settings that were left open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from localllm.errors import BadModelFile, DoesNotFit, UnsupportedModel
from localllm.gguf_file import Header, read_header, read_parts
from localllm.native import architectures, devices
from localllm.runtime import tuned
from localllm.runtime.advice import what_fits
from localllm.runtime.memory import by_device
from localllm.runtime.more_weights import more_weights, table_bytes
from localllm.runtime.options import Options
from localllm.runtime.placement import largest, margin, place
from localllm.runtime.simulate import estimated, simulated
from localllm.runtime.types import Plan, lacks, mib, needs, uncounted

DEFAULT_CTX = 8192
SMALLEST_CTX = 2048
"""A context that the person left open is chosen between these, and never above what the model was trained with."""

CELLS = 256
"""A context is a multiple of so many tokens: `llama_context` of llama.cpp pads it."""

# LLAMA_MAX_LAYERS of llama.cpp.
_MOST_LAYERS = 512


def make_plan(path: Path, options: Options | None = None) -> Plan:
    """Plan loading the GGUF at `path`. Loads nothing; takes some tenths of a second.

    What `options` leave open is chosen: the context is `DEFAULT_CTX` or what the model was trained with, or less, down
    to `SMALLEST_CTX`, where that lets everything fit; the layers on other devices are as many as fit.

    With `options.workers` call it only where it may end the process: see `process.plan`.

    Raises:
        ModelNotFound, BadModelFile, UnsupportedModel: the file cannot be run.
        BadWorker, MissingPackage: a worker cannot be used.
        DoesNotFit: layers were asked for and no device takes them.
    """
    return _plan(read_header(path), options or Options())


def _plan(header: Header, options: Options) -> Plan:
    _check_runs(header)
    settled, notes = tuned.settle(header.path, options)
    plan = _planned(header, settled)
    if notes and (not plan.fits or plan.n_ctx < _wanted_ctx(header, settled)):
        # Speed is not worth a part of the context.
        settled, _ = tuned.settle(header.path, replace(options, tuned=False))
        plan = _planned(header, settled)
        notes = ("What was tuned needs more memory than there is now, so it is left out.",)
    return replace(plan, notes=(*plan.notes, *notes))


def _planned(header: Header, options: Options) -> Plan:
    """The plan for options that leave at most the context and the placement of layers open."""
    wanted = _wanted_ctx(header, options)
    plan = place(header, replace(options, n_ctx=wanted))
    if not options.n_ctx:
        plan = _with_open_context(header, options, plan)
    notes = [*_notes(header, options)]
    if plan.n_ctx < wanted:
        notes.append(f"The context is {plan.n_ctx:,} tokens, not {wanted:,}, because more does not fit in memory now.")
    advice = "" if plan.fits else what_fits(header, sum(part.parameters for part in read_parts(header.path)), plan)
    return replace(plan, notes=tuple(notes), advice=advice, more_weights=more_weights(header, plan))


def plan_quickly(header: Header, options: Options) -> tuple[Plan, Callable[[], Plan]]:
    """`make_plan`, by the header, for a load that follows at once, whose own ledger will be exact; and what makes the
    plan in full, beside that load.

    The load is not simulated first where nothing is to choose and the formulas see room for twice what is needed: on
    the CPU, with plenty of memory. The full plan then only adds what the ledger of a load does not tell.
    """
    present = devices.devices(options.workers)
    to_choose = options.gpu_layers or options.split or devices.offload_devices(present)
    beyond = options.n_ctx > _wanted_ctx(header, Options())
    if to_choose or beyond or header.integer("split.count") > 1:
        return _at_once(_plan(header, options))
    _check_runs(header)
    settled, tuned_notes = tuned.settle(header.path, options)
    chosen = replace(settled, n_ctx=_wanted_ctx(header, options), gpu_layers=0, cpu_moe=0)
    uses, layers, _ = estimated(header, chosen)
    parts = by_device(uses, layers, present)
    # The matrix unit has copies of weights in an order of its own, with at most an eighth more for sums.
    more = table_bytes(header) if devices.has_matrix_unit() else 0
    if any(2 * (needs(device) + more) > device.free for device in parts):
        return _at_once(_plan(header, options))
    why = "All sizes are estimates, made by formulas: there is room for twice as much."
    quick = Plan(header.path, chosen, parts, exact=False, estimate=why)
    return quick, lambda: _in_full(header, options, quick, tuned_notes)


def _at_once(plan: Plan) -> tuple[Plan, Callable[[], Plan]]:
    return plan, lambda: plan


def _in_full(header: Header, options: Options, quick: Plan, notes: Sequence[str]) -> Plan:
    """The `quick` plan for `options` with the sizes that formulas do not know, and all notes."""
    plan = simulated(header, quick.options) if devices.has_matrix_unit() else quick
    return replace(plan, notes=(*_notes(header, options), *notes), more_weights=more_weights(header, plan))


def check_fits(plan: Plan) -> None:
    """Refuse a plan that does not fit.

    Raises:
        DoesNotFit: names the device, what it needs and has, and what would fit.
    """
    for device in plan.devices:
        if lacks(device) > 0:
            kernels = f", and {mib(uncounted(device))} for the device's own kernels" if uncounted(device) else ""
            raise DoesNotFit(
                f"{plan.path.name} needs {mib(needs(device))} on {device.name} (weights {mib(device.weights)}, "
                f"KV cache {mib(device.kv)} for {plan.n_ctx:,} tokens, compute {mib(device.compute)}){kernels}; "
                f"{mib(device.free)} are free.",
                hint=plan.advice,
            )


def _wanted_ctx(header: Header, options: Options) -> int:
    return options.n_ctx or min(header.context_length or DEFAULT_CTX, DEFAULT_CTX)


def _check_runs(header: Header) -> None:
    if header.architecture == "" or not (header.tensors or header.integer("split.count") > 1):
        raise BadModelFile(
            f"{header.path} holds no model: it has {len(header.tensors)} tensors and "
            f"{'no architecture' if not header.architecture else 'architecture ' + header.architecture}.",
            hint="It may be a vocabulary, an adapter or an importance matrix.",
        )
    if not header.n_layer and f"{header.architecture}.block_count" not in header.metadata:
        known = architectures.nearest(header.architecture)
        if header.architecture not in known:
            raise UnsupportedModel(
                f"{header.path}: {header.architecture!r} is no architecture that is known, and the file does not say "
                "how many layers it has.",
                hint=f"{architectures.told(known)}The file may be damaged: fetch or convert it again.",
            )
    if not 1 <= header.n_layer <= _MOST_LAYERS:
        raise BadModelFile(f"{header.path}: {header.architecture}.block_count is {header.n_layer}; it runs 1 to 512.")


def _with_open_context(header: Header, options: Options, plan: Plan) -> Plan:
    """The plan with the largest smaller context that lets it fit, or that lets a model be on GPUs as a whole."""
    smallest = min(SMALLEST_CTX, plan.n_ctx)
    whole = _is_whole(header, options, plan)
    if smallest == plan.n_ctx or (plan.fits and whole):
        return plan
    least = place(header, replace(options, n_ctx=smallest))
    if plan.fits and not _is_whole(header, options, least):
        return plan

    def excess(blocks: int) -> int:
        found = simulated(header, replace(least.options, n_ctx=smallest + blocks * 256))
        return max(needs(part) + (margin(part) if part.kind != "cpu" else 0) - part.free for part in found.devices)

    blocks = largest((plan.n_ctx - smallest) // 256, excess)
    return simulated(header, replace(least.options, n_ctx=smallest + blocks * 256))


def _is_whole(header: Header, options: Options, plan: Plan) -> bool:
    """Whether nothing is left on the CPU that GPUs were free to take; so is a plan without GPUs."""
    offloads = options.gpu_layers is None and any(part.kind != "cpu" for part in plan.devices)
    return not offloads or (plan.gpu_layers > header.n_layer and plan.options.cpu_moe == (options.cpu_moe or 0))


def _notes(header: Header, options: Options) -> list[str]:
    notes = []
    rounded = -(-options.n_ctx // CELLS) * CELLS
    if rounded != options.n_ctx:
        notes.append(
            f"The context is {rounded:,} tokens, not {options.n_ctx:,}: llama.cpp rounds up to a multiple of {CELLS}."
        )
    if header.context_length and options.n_ctx > header.context_length:
        notes.append(
            f"The context of {options.n_ctx:,} tokens is beyond the {header.context_length:,} that the model was "
            "trained with: expect worse answers past it."
        )
    if options.gpu_layers is None and not devices.are_assumed():
        from localllm.native import accelerators

        notes += [str(gpu) for gpu in accelerators.unused(devices.devices(), devices.backends())]
    return notes
