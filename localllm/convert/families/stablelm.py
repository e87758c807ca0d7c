"""StableLM: Llama's layers with layer norms and partial rotary positions; in the 12B side by side, with norms by head.

Reference: the `stablelm` graph of llama.cpp, `StableLmConfig` of transformers.
"""

from __future__ import annotations

from collections.abc import Callable

from localllm.convert.config import Config
from localllm.convert.families import Rule, Sizes, decoder, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, flag
from localllm.convert.transforms import Transform, Vectors


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `stablelm` graph does not compute."""
    config.only("hidden_act", "silu")
    config.only("tie_word_embeddings", False)
    decoder.whole_hidden(config)
    rope.refuse(config, ("default", "linear"), partial=True)


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name."""
    heads = config.count("num_attention_heads")
    return {**decoder.dimensions(config), "heads": heads, "kv_heads": decoder.kv_heads(config)}


def hyperparameters(config: Config, arch: str) -> Keys:
    """The usual ones with a layer norm, and whether attention and feed-forward stand side by side."""
    return {
        **decoder.hyperparameters(config, arch, epsilon="layer_norm_eps"),
        f"{arch}.use_parallel_residual": flag(config.flag("use_parallel_residual")),
    }


def _norm_of_heads(letter: str, each: str) -> Rule:
    def rows(each: str) -> Callable[[Sizes], Transform]:
        return lambda sizes: Vectors((sizes[each], sizes["head"]))

    source = f"{decoder.LAYER}.self_attn.{letter}_layernorm.norms.{{e}}.weight"
    return Rule(f"blk.{{i}}.attn_{letter}_norm.weight", source, ("head",), rows(each), each=each)


FAMILY = UsualDecoder(
    arch="stablelm",
    defaults={
        name: {
            "vocab_size": 50304,
            "hidden_size": 2560,
            "intermediate_size": 6912,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
            "layer_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.25,
        }
        for name in ("StableLmForCausalLM", "StableLMEpochForCausalLM")
    },
    aliases={"norm_eps": "layer_norm_eps", "rope_pct": "partial_rotary_factor"},
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    rules=(
        *decoder.EMBEDDING_AND_HEAD,
        *decoder.norm("output_norm", "model.norm"),
    ),
    layer_rules=(
        *decoder.norm("blk.{i}.attn_norm", f"{decoder.LAYER}.input_layernorm"),
        *decoder.only_when(
            lambda config, _: not config.flag("use_parallel_residual"),
            decoder.norm("blk.{i}.ffn_norm", f"{decoder.LAYER}.post_attention_layernorm"),
        ),
        *decoder.only_when(
            lambda config, _: config.flag("qk_layernorm"),
            (_norm_of_heads("q", "heads"), _norm_of_heads("k", "kv_heads")),
        ),
        *decoder.attention(optional_bias="qkv"),
        *decoder.feed_forward(),
    ),
)
