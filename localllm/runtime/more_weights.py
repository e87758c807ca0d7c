"""Why weights take more memory than they do in the file, in words. Knows nothing of how a plan is made."""

from __future__ import annotations

from dataclasses import replace

from localllm.gguf_file import Header, read_parts
from localllm.runtime.types import Plan, mib

TABLE, OUTPUT = "token_embd.weight", "output.weight"

WORTH_TELLING = 1 << 20
"""Bytes: less than this is alignment."""


def table_bytes(header: Header) -> int:
    """Bytes of the embedding table where it is the output layer as well; 0 where that one has weights of its own."""
    sizes = {tensor.name: tensor.n_bytes for tensor in header.tensors}
    return 0 if OUTPUT in sizes else sizes.get(TABLE, 0)


def more_weights(header: Header, plan: Plan) -> str:
    """What the weights of `plan` take beyond those in the file of `header`, and why; empty if that is nothing.

    llama.cpp keeps the table a second time where the output layer is on another device, or in the order of the
    processor's matrix unit; that order has sums beside the blocks, and so is larger.
    """
    parts = read_parts(header.path) if header.integer("split.count") > 1 else [header]
    in_file = sum(part.tensor_bytes for part in parts)
    more = sum(device.weights for device in plan.devices) - in_file
    if more < WORTH_TELLING:
        return ""
    table = table_bytes(replace(header, tensors=tuple(tensor for part in parts for tensor in part.tensors)))
    twice = f"{mib(table)} more for the embedding table, which is kept a second time as the output layer"
    rest = more - table if table <= more else more
    reasons = [twice] if 0 < table <= more else []
    if rest >= WORTH_TELLING:
        reasons.append(f"{mib(rest)} more for the order in which the processor likes its weights")
    return f"The weights take {mib(in_file)} in the file and {mib(in_file + more)} in memory: {', and '.join(reasons)}."
