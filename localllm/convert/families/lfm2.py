"""LFM2: short gated convolutions, and attention with norms of queries and keys in some of the layers.

Reference: the `lfm2` graph of llama.cpp, `Lfm2Config` and `Lfm2MLP` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, i32s, u32

_LAYER, _BLOCK = decoder.LAYER, decoder.BLOCK


def attends(config: Config) -> list[bool]:
    """Which layers have attention, by `layer_types` or by the older `full_attn_idxs`."""
    layers = config.count("num_hidden_layers")
    kinds = config.get("layer_types")
    if kinds is None:
        indices = config.get("full_attn_idxs", list(range(layers)))
        kinds = ["full_attention" if layer in indices else "conv" for layer in range(layers)]
    return decoder.layers_of("full_attention", config, kinds, other="conv")


def feed_forward_length(config: Config) -> int:
    """The width of the feed-forward layers, which follows from the one in the file where that is to be adjusted."""
    width = config.count("intermediate_size")
    if not config.flag("block_auto_adjust_ff_dim"):
        return width
    width = int(2 * width / 3)
    if config.get("block_ffn_dim_multiplier") is not None:
        width = int(config.number("block_ffn_dim_multiplier") * width)
    step = config.count("block_multiple_of")
    return -(-width // step) * step


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name."""
    sizes = decoder.dimensions(config)
    return {**sizes, "ffn": feed_forward_length(config), "kernel": config.count("conv_L_cache")}


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `lfm2` graph does not compute."""
    config.only("conv_bias", False)
    decoder.whole_hidden(config)
    attends(config)
    rope.refuse(config, ("default", "linear"))


def hyperparameters(config: Config, arch: str) -> Keys:
    """The usual ones, with key-value heads by layer, none where it is a convolution, and the length of that."""
    heads = decoder.kv_heads(config)
    return {
        **decoder.hyperparameters(config, arch),
        f"{arch}.feed_forward_length": u32(feed_forward_length(config)),
        f"{arch}.attention.head_count_kv": i32s([heads if attention else 0 for attention in attends(config)]),
        f"{arch}.vocab_size": u32(config.count("vocab_size")),
        f"{arch}.shortconv.l_cache": u32(config.count("conv_L_cache")),
    }


def _attention(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return decoder.only_when(lambda config, layer: attends(config)[layer], rules)


def _convolution(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return decoder.only_when(lambda config, layer: not attends(config)[layer], rules)


FAMILY = UsualDecoder(
    arch="lfm2",
    defaults={
        name: {
            "vocab_size": 65536,
            "hidden_size": 2560,
            "intermediate_size": 12288,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 128000,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1000000.0,
            "conv_L_cache": 3,
            "block_multiple_of": 256,
            "block_ffn_dim_multiplier": 1.0,
            "block_auto_adjust_ff_dim": True,
            "tie_word_embeddings": True,
        }
        for name in ("Lfm2ForCausalLM", "LFM2ForCausalLM")
    },
    aliases={"norm_eps": "rms_norm_eps", "block_ff_dim": "intermediate_size", "tie_embedding": "tie_word_embeddings"},
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    rules=(
        *decoder.EMBEDDING_AND_HEAD,
        Rule("token_embd_norm.weight", "model.embedding_norm.weight", ("hidden",)),
    ),
    layer_rules=(
        Rule(f"{_BLOCK}.attn_norm.weight", f"{_LAYER}.operator_norm.weight", ("hidden",)),
        Rule(f"{_BLOCK}.ffn_norm.weight", f"{_LAYER}.ffn_norm.weight", ("hidden",)),
        *_attention(decoder.attention()),
        *_attention(decoder.QK_NORMS),
        *_convolution(
            (
                Rule(f"{_BLOCK}.shortconv.in_proj.weight", f"{_LAYER}.conv.in_proj.weight", ("3 hidden", "hidden")),
                Rule(f"{_BLOCK}.shortconv.out_proj.weight", f"{_LAYER}.conv.out_proj.weight", ("hidden", "hidden")),
                decoder.convolution(f"{_BLOCK}.shortconv.conv.weight", f"{_LAYER}.conv.conv.weight", "hidden"),
            )
        ),
        *decoder.feed_forward(),
    ),
    renames=(
        (r"\.feed_forward\.w1\.", ".mlp.gate_proj."),
        (r"\.feed_forward\.w3\.", ".mlp.up_proj."),
        (r"\.feed_forward\.w2\.", ".mlp.down_proj."),
        (r"\.self_attn\.out_proj\.", ".self_attn.o_proj."),
        (r"\.self_attn\.([qk])_layernorm\.", r".self_attn.\1_norm."),
    ),
)
