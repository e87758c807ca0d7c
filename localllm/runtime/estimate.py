"""What a model and its context allocate, by formula: for platforms where llama.cpp's own ledger cannot be read.

Weights and KV cache follow from the header; the compute buffer has no closed form and is a bound for dense models.
"""

from __future__ import annotations

import re

from localllm.gguf_file import TENSOR_TYPES, Header
from localllm.native import handles
from localllm.native.ledger import BufferUse
from localllm.runtime.types import Options

_BLOCK = re.compile(r"^blk\.(\d+)\.")


def buffers(
    header: Header, options: Options, cpu: str, gpus: list[str]
) -> tuple[tuple[BufferUse, ...], dict[str, int], int]:
    """(buffers, layers per device, context) for `options.gpu_layers` layers on the first GPU and the rest on the CPU.

    llama.cpp puts layer `il` on the GPU if `il >= n_layer + 1 - n_gpu_layers`; the output layer counts as one and goes
    first, the token embedding stays on the CPU.
    """
    n_layer, n_ctx = header.n_layer, -(-(options.n_ctx or header.context_length) // 256) * 256
    first_on_gpu = n_layer + 1 - (options.gpu_layers or 0) if gpus else n_layer + 1
    weights, kv = [0, 0], [0, 0]
    for tensor in header.tensors:
        block = _BLOCK.match(tensor.name)
        layer = int(block[1]) if block else (-1 if tensor.name.startswith("token_embd") else n_layer)
        weights[layer >= first_on_gpu] += _padded(tensor.n_bytes)
    if not any(tensor.name == "output.weight" for tensor in header.tensors) and first_on_gpu <= n_layer:
        # A tied head is a second copy of the embedding where the output runs on the GPU.
        weights[1] += sum(_padded(t.n_bytes) for t in header.tensors if t.name == "token_embd.weight")
    for layer in range(n_layer):
        kv[layer >= first_on_gpu] += n_ctx * kv_bytes_per_token(header, options.kv_type)
    compute = compute_bytes(header, options, n_ctx)
    on_gpu = max(0, n_layer + 1 - first_on_gpu)
    uses = [BufferUse("CPU", cpu, "cpu", weights[0], kv[0], compute)]
    if on_gpu:
        uses.append(BufferUse(gpus[0], gpus[0], "gpu", weights[1], kv[1], compute))
    layers = {cpu: n_layer + 1 - on_gpu} | ({gpus[0]: on_gpu} if on_gpu else {})
    return tuple(uses), layers, n_ctx


def _padded(size: int) -> int:
    """ggml aligns each tensor to 32 bytes, in memory as in the file."""
    return -(-size // 32) * 32


def kv_bytes_per_token(header: Header, kv_type: str) -> int:
    """Bytes of K and V for one token of one layer: a row of `kv_heads * head_dim` each."""
    heads = max(1, header.integer("{arch}.attention.head_count", 1))
    kv_heads = header.integer("{arch}.attention.head_count_kv", heads)
    head_dim = header.integer("{arch}.embedding_length") // heads
    _, block, block_bytes = TENSOR_TYPES[handles.KV_TYPE_IDS[kv_type]]
    k_and_v = ("key_length", "value_length")
    rows = (kv_heads * header.integer(f"{{arch}}.attention.{length}", head_dim) for length in k_and_v)
    return sum(row // block * block_bytes for row in rows)


def compute_bytes(header: Header, options: Options, n_ctx: int) -> int:
    """A bound for the scratch buffer: the widest activations of one ubatch, its attention mask, a row of logits."""
    wide = 2 * header.integer("{arch}.feed_forward_length") + 4 * header.integer("{arch}.embedding_length")
    vocabulary = header.integer("{arch}.vocab_size", 32_000)
    return 4 * options.n_ubatch * (wide + n_ctx) + 4 * vocabulary
