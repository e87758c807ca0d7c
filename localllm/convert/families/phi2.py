"""Phi-1, Phi-1.5 and Phi-2: one layer norm before attention and feed-forward side by side, biases everywhere.

Reference: the `phi2` graph of llama.cpp, `PhiConfig` of transformers.
"""

from __future__ import annotations

from functools import partial

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, rope
from localllm.convert.families.usual import UsualDecoder


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `phi2` graph does not compute."""
    config.only("hidden_act", *decoder.GELU)
    config.only("qk_layernorm", False)
    config.only("tie_word_embeddings", False)
    decoder.whole_hidden(config)
    rope.refuse(config, ("default", "linear"), partial=True)


FAMILY = UsualDecoder(
    arch="phi2",
    defaults={
        "PhiForCausalLM": {
            "vocab_size": 51200,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 24,
            "num_attention_heads": 32,
            "max_position_embeddings": 2048,
            "layer_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "hidden_act": "gelu_new",
        },
    },
    hyperparameters=partial(decoder.hyperparameters, epsilon="layer_norm_eps"),
    refuse=refuse,
    notes=decoder.gelu_notes,
    rules=(
        Rule("token_embd.weight", "model.embed_tokens.weight", ("vocab", "hidden")),
        *decoder.norm("output_norm", "model.final_layernorm"),
        *decoder.with_bias(Rule("output.weight", "lm_head.weight", ("vocab", "hidden"))),
    ),
    layer_rules=(
        *decoder.norm("blk.{i}.attn_norm", f"{decoder.LAYER}.input_layernorm"),
        *decoder.attention(bias="qkvo"),
        *decoder.with_bias(Rule("blk.{i}.ffn_up.weight", f"{decoder.LAYER}.mlp.fc1.weight", ("ffn", "hidden"))),
        *decoder.with_bias(Rule("blk.{i}.ffn_down.weight", f"{decoder.LAYER}.mlp.fc2.weight", ("hidden", "ffn"))),
    ),
    renames=((r"\.self_attn\.dense\.", ".self_attn.o_proj."),),
)
