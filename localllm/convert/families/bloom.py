"""BLOOM: ALiBi for positions, a layer norm on the embeddings, q, k and v in one matrix head by head.

Reference: the `bloom` graph of llama.cpp, `BloomConfig` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Family, Rule, Sizes, decoder
from localllm.convert.header import Keys, f32, u32


def dimensions(config: Config) -> Sizes:
    """Sizes that the rules name."""
    hidden = config.count("hidden_size")
    return {
        "layers": config.count("num_hidden_layers"),
        "vocab": config.count("vocab_size"),
        "hidden": hidden,
        "ffn": 4 * hidden,
        "heads": config.count("num_attention_heads"),
        "head": decoder.head_dim(config),
    }


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `bloom` graph does not compute."""
    config.only("apply_residual_connection_post_layernorm", False)
    decoder.whole_hidden(config)


def hyperparameters(config: Config, arch: str) -> Keys:
    """The keys of the architecture. The length of the context is in older files only; ALiBi itself has none."""
    sizes = dimensions(config)
    return {
        f"{arch}.context_length": u32(config.count("seq_length")),
        f"{arch}.embedding_length": u32(sizes["hidden"]),
        f"{arch}.feed_forward_length": u32(sizes["ffn"]),
        f"{arch}.block_count": u32(sizes["layers"]),
        f"{arch}.attention.head_count": u32(sizes["heads"]),
        f"{arch}.attention.head_count_kv": u32(sizes["heads"]),
        f"{arch}.attention.layer_norm_epsilon": f32(config.number("layer_norm_epsilon")),
    }


def _linear(name: str, source: str, *shape: str) -> tuple[Rule, Rule]:
    return decoder.with_bias(Rule(f"blk.{{i}}.{name}.weight", f"h.{{i}}.{source}.weight", shape))


FAMILY = Family(
    arch="bloom",
    defaults={
        "BloomForCausalLM": {
            "vocab_size": 250880,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 8,
            "layer_norm_epsilon": 1e-5,
            "seq_length": 2048,
            "tie_word_embeddings": True,
        },
    },
    aliases={"n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "n_embed": "hidden_size"},
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    rules=(
        Rule("token_embd.weight", "word_embeddings.weight", ("vocab", "hidden")),
        *decoder.norm("token_embd_norm", "word_embeddings_layernorm"),
        *decoder.norm("output_norm", "ln_f"),
        Rule("output.weight", "lm_head.weight", ("vocab", "hidden")),
    ),
    layer_rules=(
        *decoder.norm("blk.{i}.attn_norm", "h.{i}.input_layernorm"),
        *decoder.with_bias(decoder.qkv_by_head("h.{i}.self_attention.query_key_value.weight")),
        *_linear("attn_output", "self_attention.dense", "hidden", "hidden"),
        *decoder.norm("blk.{i}.ffn_norm", "h.{i}.post_attention_layernorm"),
        *_linear("ffn_up", "mlp.dense_h_to_4h", "ffn", "hidden"),
        *_linear("ffn_down", "mlp.dense_4h_to_h", "hidden", "ffn"),
    ),
    renames=((r"^transformer\.", ""),),
)
