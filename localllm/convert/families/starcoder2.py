"""StarCoder 2: layer norms and biases everywhere, a feed-forward layer without gate, grouped key-value heads.

Reference: the `starcoder2` graph of llama.cpp, `Starcoder2Config` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, llama, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, u32


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `starcoder2` graph does not compute."""
    config.only("hidden_act", *decoder.GELU)
    config.only("use_bias", True)
    decoder.whole_hidden(config)
    rope.refuse(config, rope.WITHOUT_FACTORS)


def hyperparameters(config: Config, arch: str) -> Keys:
    """The usual ones with a layer norm, and the context that the window leaves."""
    return {
        **decoder.hyperparameters(config, arch, epsilon="layer_norm_eps"),
        f"{arch}.context_length": u32(llama.context_length(config)),
    }


def notes(config: Config) -> list[str]:
    """Where llama.cpp and transformers differ."""
    return [*llama.notes(config), *decoder.gelu_notes(config)]


FAMILY = UsualDecoder(
    arch="starcoder2",
    defaults={
        "Starcoder2ForCausalLM": {
            "vocab_size": 49152,
            "hidden_size": 3072,
            "intermediate_size": 12288,
            "num_hidden_layers": 30,
            "num_attention_heads": 24,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "layer_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
        },
    },
    aliases={"norm_epsilon": "layer_norm_eps"},
    hyperparameters=hyperparameters,
    refuse=refuse,
    notes=notes,
    rules=(
        *decoder.EMBEDDING_AND_HEAD,
        *decoder.norm("output_norm", "model.norm"),
    ),
    layer_rules=(
        *decoder.norm("blk.{i}.attn_norm", f"{decoder.LAYER}.input_layernorm"),
        *decoder.norm("blk.{i}.ffn_norm", f"{decoder.LAYER}.post_attention_layernorm"),
        *decoder.attention(bias="qkvo"),
        *decoder.with_bias(Rule("blk.{i}.ffn_up.weight", f"{decoder.LAYER}.mlp.c_fc.weight", ("ffn", "hidden"))),
        *decoder.with_bias(Rule("blk.{i}.ffn_down.weight", f"{decoder.LAYER}.mlp.c_proj.weight", ("hidden", "ffn"))),
    ),
)
