"""Falcon: attention and feed-forward side by side, q, k and v in one matrix by groups of heads.

The first 7B has one key-value head and one norm for a layer; the 40B and 180B have groups and a norm for either side;
Falcon 2 has groups and one norm.

Reference: the `falcon` graph of llama.cpp, `FalconConfig` and `FalconAttention._split_heads` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Family, Rule, Sizes, decoder, rope
from localllm.convert.header import Keys, f32, text, u32
from localllm.convert.transforms import Transform, regroup

_LAYER = "transformer.h.{i}"


def kv_heads(config: Config) -> int:
    """Key-value heads. `num_kv_heads` counts in the new architecture only."""
    heads = config.count("num_attention_heads")
    if config.flag("new_decoder_architecture"):
        return config.count("num_kv_heads", heads)
    return 1 if config.flag("multi_query") else heads


def dimensions(config: Config) -> Sizes:
    """Sizes that the rules name."""
    hidden, head = config.count("hidden_size"), decoder.head_dim(config)
    return {
        "layers": config.count("num_hidden_layers"),
        "vocab": config.count("vocab_size"),
        "hidden": hidden,
        "ffn": config.count("ffn_hidden_size", 4 * hidden),
        "head": head,
        "q": config.count("num_attention_heads") * head,
        "kv": kv_heads(config) * head,
        "qkv": (config.count("num_attention_heads") + 2 * kv_heads(config)) * head,
    }


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `falcon` graph does not compute, ALiBi among it."""
    config.only("activation", *decoder.GELU)
    config.only("alibi", False)
    config.only("bias", False)
    config.only("parallel_attn", True)
    decoder.whole_hidden(config)
    rope.refuse(config, ("default", "linear"))


def hyperparameters(config: Config, arch: str) -> Keys:
    """The keys of the architecture."""
    sizes = dimensions(config)
    return {
        f"{arch}.context_length": u32(config.count("max_position_embeddings")),
        f"{arch}.tensor_data_layout": text("jploski"),
        f"{arch}.embedding_length": u32(sizes["hidden"]),
        f"{arch}.feed_forward_length": u32(sizes["ffn"]),
        f"{arch}.block_count": u32(sizes["layers"]),
        f"{arch}.attention.head_count": u32(config.count("num_attention_heads")),
        f"{arch}.attention.head_count_kv": u32(kv_heads(config)),
        f"{arch}.attention.layer_norm_epsilon": f32(config.number("layer_norm_epsilon")),
        **rope.keys(config.rope, arch),
    }


def _qkv(sizes: Sizes) -> Transform:
    head, groups = sizes["head"], sizes["kv"] // sizes["head"]
    return regroup(groups, (sizes["q"] // groups, head, head))


def _two_norms(config: Config, _: int) -> bool:
    return config.flag("new_decoder_architecture") and config.count("num_ln_in_parallel_attn", 2) == 2


def _one_norm(config: Config, layer: int) -> bool:
    return not _two_norms(config, layer)


FAMILY = Family(
    arch="falcon",
    defaults={
        name: {
            "vocab_size": 65024,
            "hidden_size": 4544,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "layer_norm_epsilon": 1e-5,
            "max_position_embeddings": 2048,
            "multi_query": True,
            "activation": "gelu",
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
        }
        for name in ("FalconForCausalLM", "RWForCausalLM")
    },
    aliases={
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_head_kv": "num_kv_heads",
        "n_embed": "hidden_size",
    },
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    notes=lambda config: decoder.gelu_notes(config, "activation"),
    rules=(
        Rule("token_embd.weight", "transformer.word_embeddings.weight", ("vocab", "hidden")),
        *decoder.norm("output_norm", "transformer.ln_f"),
        Rule("output.weight", "lm_head.weight", ("vocab", "hidden")),
    ),
    layer_rules=(
        *decoder.only_when(_one_norm, decoder.norm("blk.{i}.attn_norm", f"{_LAYER}.input_layernorm")),
        *decoder.only_when(_two_norms, decoder.norm("blk.{i}.attn_norm", f"{_LAYER}.ln_mlp")),
        *decoder.only_when(_two_norms, decoder.norm("blk.{i}.attn_norm_2", f"{_LAYER}.ln_attn")),
        Rule("blk.{i}.attn_qkv.weight", f"{_LAYER}.self_attention.query_key_value.weight", ("qkv", "hidden"), _qkv),
        Rule("blk.{i}.attn_output.weight", f"{_LAYER}.self_attention.dense.weight", ("hidden", "hidden")),
        Rule("blk.{i}.ffn_up.weight", f"{_LAYER}.mlp.dense_h_to_4h.weight", ("ffn", "hidden")),
        Rule("blk.{i}.ffn_down.weight", f"{_LAYER}.mlp.dense_4h_to_h.weight", ("hidden", "ffn")),
    ),
    ignored=(r"\.rotary_emb\.inv_freq$",),
)
