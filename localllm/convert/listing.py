"""What each quantization type costs and needs on this machine, asked of the installed llama.cpp.

Two models that have a header but no weights are put before llama.cpp's quantizer and loader: an 8B Llama, and one whose
rows do not fill blocks of 256. Knows no rule of either.
"""

from __future__ import annotations

from dataclasses import dataclass

from localllm.convert.header import Keys, Layout, f32, lay_out, text, u32
from localllm.convert.mixture import Mixture, TensorInfo, choose_types
from localllm.convert.quantizations import PHRASES, TYPES
from localllm.convert.scratch import skeleton
from localllm.convert.settings import Settings
from localllm.errors import UnsupportedModel
from localllm.native import handles, ledger


@dataclass(frozen=True)
class TypeFacts:
    """A quantization type. `bits_per_weight` is of an 8B Llama, all its tensors together.

    `repacked` is the part of that model's bytes that llama.cpp rearranges for the CPU's vector units when it loads the
    file, which is what makes a type fast on a CPU; None where this cannot be asked. `odd_rows` is the type of a matrix
    whose rows are a multiple of 32 but not of the type's block; None when llama.cpp refuses such a model.
    """

    name: str
    phrase: str
    bits_per_weight: float
    needs_imatrix: bool
    repacked: float | None
    odd_rows: str | None


def list_types() -> list[TypeFacts]:
    """The types that the installed llama.cpp can write, about from large to small. Takes some tenths of a second."""
    facts = []
    keys, tensors = _llama(layers=32, hidden=4096, ffn=14336, heads=32, kv_heads=8, vocab=128256)
    odd_keys, odd_tensors = _llama(layers=1, hidden=96, ffn=96, heads=1, kv_heads=1, vocab=32)
    weights = sum(_count(shape) for _, shape, _ in tensors)
    for name in TYPES:
        mixture = _mixture(keys, tensors, name)
        if mixture is None:
            continue
        odd = _mixture(odd_keys, odd_tensors, name)
        layout = lay_out(keys, [(tensor, shape, mixture.types[tensor]) for tensor, shape, _ in tensors])
        facts.append(
            TypeFacts(
                name=name,
                phrase=PHRASES[name],
                bits_per_weight=8 * sum(entry.n_bytes for entry in layout.entries) / weights,
                needs_imatrix=bool(mixture.needing),
                repacked=_repacked(layout),
                odd_rows=odd.types["blk.0.ffn_up.weight"] if odd else None,
            )
        )
    return facts


def _mixture(keys: Keys, tensors: list[TensorInfo], name: str) -> Mixture | None:
    try:
        return choose_types(keys, tensors, Settings(type=name))
    except UnsupportedModel:
        return None


def _repacked(layout: Layout) -> float | None:
    """The part of the weights that a load puts into buffers of llama.cpp's own arrangement."""
    if not ledger.supported():
        return None
    with skeleton(layout) as path, handles.open_model(path, simulate=True) as model:
        context = handles.open_context(model, n_ctx=256, n_batch=32, n_ubatch=32, threads=1)
        try:
            uses = ledger.read(context.pointer)
        finally:
            context.close()
    arranged = sum(use.weights for use in uses if use.kind == "cpu" and use.buffer != "CPU")
    return arranged / sum(use.weights for use in uses)


def _count(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def _llama(
    *, layers: int, hidden: int, ffn: int, heads: int, kv_heads: int, vocab: int
) -> tuple[Keys, list[TensorInfo]]:
    """The header of a Llama without a vocabulary, its matrices in F16."""
    numbers = {
        "block_count": layers,
        "context_length": 8192,
        "embedding_length": hidden,
        "feed_forward_length": ffn,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "vocab_size": vocab,
    }
    keys = {"general.architecture": text("llama"), "tokenizer.ggml.model": text("no_vocab")}
    keys |= {f"llama.{name}": u32(number) for name, number in numbers.items()}
    keys["llama.attention.layer_norm_rms_epsilon"] = f32(1e-5)
    narrow = hidden // heads * kv_heads
    of_layer = {
        "attn_k": (hidden, narrow),
        "attn_norm": (hidden,),
        "attn_output": (hidden, hidden),
        "attn_q": (hidden, hidden),
        "attn_v": (hidden, narrow),
        "ffn_down": (ffn, hidden),
        "ffn_gate": (hidden, ffn),
        "ffn_norm": (hidden,),
        "ffn_up": (hidden, ffn),
    }
    shapes = {"output": (hidden, vocab), "output_norm": (hidden,), "token_embd": (hidden, vocab)}
    shapes |= {f"blk.{layer}.{name}": shape for layer in range(layers) for name, shape in of_layer.items()}
    return keys, [(f"{name}.weight", shape, "F16" if len(shape) > 1 else "F32") for name, shape in shapes.items()]
