"""What would fit, for a plan that does not: the largest context, layer count, KV type and quantization."""

from __future__ import annotations

from dataclasses import replace

from localllm.gguf_file import Header
from localllm.runtime.options import WIDE_KV_TYPES, Options
from localllm.runtime.placement import largest, place
from localllm.runtime.simulate import simulated
from localllm.runtime.types import DeviceMemory, Plan, lacks

BITS_PER_WEIGHT = {
    "Q8_0": 8.5,
    "Q6_K": 6.6,
    "Q5_K_M": 5.7,
    "Q4_K_M": 4.9,
    "Q3_K_M": 4.0,
    "Q2_K": 3.2,
    "IQ2_XS": 2.6,
    "IQ1_S": 2.0,
}
"""About how many bits a weight takes in a file of that type: those of an 8B Llama, in llama.cpp's tools/quantize."""


def what_fits(header: Header, parameters: int, plan: Plan) -> str:
    """One or two sentences on what to change; `parameters` is the number of weights in all parts of the file."""
    short = [part for part in plan.devices if lacks(part) > 0]
    offload = [part for part in short if part.kind != "cpu"]
    ways = [*_contexts(header, plan, short), *_kv_types(header, plan)]
    if offload:
        ways += _layers(header, plan)
    else:
        ways += _quantizations(parameters, plan, short)
    if not ways:
        return "Nothing smaller fits either: choose a smaller model, or close other programs."
    return f"What would fit: {', or '.join(ways)}."


def _contexts(header: Header, plan: Plan, short: list[DeviceMemory]) -> list[str]:
    names = {part.name for part in short}

    def excess(blocks: int) -> int:
        smaller = simulated(header, replace(plan.options, n_ctx=blocks * 256))
        return max(lacks(part) for part in smaller.devices if part.name in names)

    most, trained = largest(plan.n_ctx // 256, excess) * 256, header.context_length
    if 0 < trained < most:
        usual = f"the context that the model was trained with, {trained:,} tokens (--ctx {trained}, n_ctx in Python)"
        return [usual, f"up to {most:,}, with worse answers past that (--ctx {most})"]
    return [f"a context of {most:,} tokens (--ctx {most}, n_ctx in Python)"] if most else []


def _kv_types(header: Header, plan: Plan) -> list[str]:
    if not all(kind in WIDE_KV_TYPES for kind in plan.options.kv_types) or plan.options.flash_attention is False:
        return []
    for kind in ("q8_0", "q4_0"):
        if simulated(header, replace(plan.options, kv_type=kind)).fits:
            return [f"a KV cache in {kind} (--kv-type {kind}, kv_type in Python)"]
    return []


def _layers(header: Header, plan: Plan) -> list[str]:
    options: Options = replace(plan.options, gpu_layers=None, split=(), cpu_moe=None)
    fewer = place(header, options)
    return [f"fewer layers (--gpu-layers {fewer.gpu_layers}, gpu_layers in Python)"] if fewer.fits else []


def _quantizations(parameters: int, plan: Plan, short: list[DeviceMemory]) -> list[str]:
    missing = sum(lacks(part) for part in short)
    room = sum(part.weights for part in plan.devices) - missing
    for name, bits in BITS_PER_WEIGHT.items():
        if parameters * bits / 8 <= room:
            return [f"the model in {name} or smaller, some {bits:g} bits a weight"]
    return []
