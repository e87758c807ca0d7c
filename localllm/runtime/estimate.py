"""What a model and its context allocate, by formula: for platforms where llama.cpp's own ledger cannot be read.

Weights and KV cache follow from the header; the compute buffer has no closed form and is a bound for dense models.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Sequence

from localllm.gguf_file import TENSOR_TYPES, Header
from localllm.native import devices, handles
from localllm.native.ledger import BufferUse
from localllm.runtime.more_weights import table_bytes
from localllm.runtime.options import Options

_BLOCK = re.compile(r"^blk\.(\d+)\.")


def shares(layers: int, proportions: Sequence[float]) -> list[int]:
    """How many of `layers` layers each device gets. As llama.cpp: layer `i` of them goes to the first device whose
    share, added to those before it, is more than `i / layers`.
    """
    ends = [end / sum(proportions) for end in itertools.accumulate(proportions)]
    owners = [bisect.bisect_right(ends, layer / layers) for layer in range(layers)]
    return [owners.count(index) for index in range(len(proportions))]


def buffers(
    header: Header, options: Options, cpu: str, gpus: Sequence[str]
) -> tuple[tuple[BufferUse, ...], dict[str, int], int]:
    """(buffers, layers per device, context) for the last `options.gpu_layers` layers on the GPUs, by `options.split`.

    The output layer counts as one and is the last; the token embedding stays on the CPU.
    """
    n_layer, n_ctx = header.n_layer, -(-(options.n_ctx or header.context_length) // 256) * 256
    on_gpu = min(options.gpu_layers or 0, n_layer + 1) if gpus else 0
    counts = shares(on_gpu, options.split if any(options.split) else [1.0] * len(gpus)) if gpus else []
    owners = [cpu] * (n_layer + 1 - on_gpu)
    for gpu, count in zip(gpus, counts, strict=True):
        owners += [gpu] * count
    weights, kv = dict.fromkeys([cpu, *gpus], 0), dict.fromkeys([cpu, *gpus], 0)
    for tensor in header.tensors:
        weights[_owner(tensor.name, owners, options, cpu)] += _padded(tensor.n_bytes)
    if not any(tensor.name == "output.weight" for tensor in header.tensors) and owners[-1] != cpu:
        # A tied head is a second copy of the embedding where the output runs on the GPU.
        weights[owners[-1]] += sum(_padded(t.n_bytes) for t in header.tensors if t.name == "token_embd.weight")
    for owner in owners[:-1]:
        kv[owner] += n_ctx * kv_bytes_per_token(header, options.kv_types)
    compute = compute_bytes(header, options, n_ctx)
    layers = {name: owners.count(name) for name in weights if name in owners}
    uses = [
        BufferUse(name, name, "cpu" if name == cpu else "gpu", weights[name], kv[name], compute)
        for name in weights
        if name == cpu or name in layers
    ]
    return tuple(uses), layers, n_ctx


def bytes_on_cpu(header: Header, options: Options) -> int:
    """All bytes of a load without a GPU: weights, KV cache, compute.

    A matrix unit has the output layer in its own order beside the embedding table.
    """
    uses, _, _ = buffers(header, options, "CPU", [])
    second = table_bytes(header) if devices.has_matrix_unit() else 0
    return second + sum(use.weights + use.kv + use.compute for use in uses)


def _owner(name: str, owners: Sequence[str], options: Options, cpu: str) -> str:
    """The device that holds the tensor of that name; `owners` are those of the layers, the output layer last."""
    block = _BLOCK.match(name)
    if block is None:
        return cpu if name.startswith("token_embd") else owners[-1]
    layer = int(block[1])
    in_ram = layer < (options.cpu_moe or 0) and "exps." in name
    return cpu if in_ram else owners[min(layer, len(owners) - 1)]


def _padded(size: int) -> int:
    """ggml aligns each tensor to 32 bytes, in memory as in the file."""
    return -(-size // 32) * 32


def kv_bytes_per_token(header: Header, kv_types: tuple[str, str]) -> int:
    """Bytes of K and V, in these types, for one token of one layer: a row of `kv_heads * head_dim` each."""
    heads = max(1, header.integer("{arch}.attention.head_count", 1))
    kv_heads = header.integer("{arch}.attention.head_count_kv", heads)
    head_dim = header.integer("{arch}.embedding_length") // heads
    size = 0
    for kind, length in zip(kv_types, ("key_length", "value_length"), strict=True):
        _, block, block_bytes = TENSOR_TYPES[handles.KV_TYPE_IDS[kind]]
        size += kv_heads * header.integer(f"{{arch}}.attention.{length}", head_dim) // block * block_bytes
    return size


def compute_bytes(header: Header, options: Options, n_ctx: int) -> int:
    """A bound for the scratch buffer: the widest activations of one ubatch, its attention mask, a row of logits.

    Without flash attention the weights of all heads for all positions are there at once.
    """
    wide = 2 * header.integer("{arch}.feed_forward_length") + 4 * header.integer("{arch}.embedding_length")
    vocabulary = header.integer("{arch}.vocab_size", 32_000)
    heads = header.integer("{arch}.attention.head_count", 1) if options.flash_attention is False else 0
    return 4 * options.n_ubatch * (wide + (1 + heads) * n_ctx) + 4 * vocabulary
