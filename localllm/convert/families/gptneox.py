"""GPT-NeoX and Pythia: q, k and v in one matrix head by head, two layer norms, rotary positions on a part of each head.

Reference: the `gptneox` graph of llama.cpp, `GPTNeoXConfig` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Family, Rule, decoder, rope
from localllm.convert.header import Keys, flag

_LAYER = "gpt_neox.layers.{i}"


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `gptneox` graph does not compute."""
    config.only("hidden_act", *decoder.GELU)
    config.only("attention_bias", True)
    config.only("tie_word_embeddings", False)
    rope.refuse(config, ("default", "linear"), partial=True)


def hyperparameters(config: Config, arch: str) -> Keys:
    """The usual ones with a layer norm, and whether attention and feed-forward stand side by side."""
    return {
        **decoder.hyperparameters(config, arch, epsilon="layer_norm_eps"),
        f"{arch}.use_parallel_residual": flag(config.flag("use_parallel_residual")),
    }


def _linear(name: str, source: str, *shape: str) -> tuple[Rule, Rule]:
    return decoder.with_bias(Rule(f"blk.{{i}}.{name}.weight", f"{_LAYER}.{source}.weight", shape))


FAMILY = Family(
    arch="gptneox",
    defaults={
        "GPTNeoXForCausalLM": {
            "vocab_size": 50432,
            "hidden_size": 6144,
            "intermediate_size": 24576,
            "num_hidden_layers": 44,
            "num_attention_heads": 64,
            "max_position_embeddings": 2048,
            "layer_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.25,
            "hidden_act": "gelu",
            "use_parallel_residual": True,
        },
    },
    aliases={"rotary_pct": "partial_rotary_factor", "rotary_emb_base": "rope_theta"},
    dimensions=decoder.dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    notes=decoder.gelu_notes,
    rules=(
        Rule("token_embd.weight", "gpt_neox.embed_in.weight", ("vocab", "hidden")),
        *decoder.norm("output_norm", "gpt_neox.final_layer_norm"),
        Rule("output.weight", "embed_out.weight", ("vocab", "hidden")),
    ),
    layer_rules=(
        *decoder.norm("blk.{i}.attn_norm", f"{_LAYER}.input_layernorm"),
        *decoder.with_bias(decoder.qkv_by_head(f"{_LAYER}.attention.query_key_value.weight")),
        *_linear("attn_output", "attention.dense", "hidden", "hidden"),
        *decoder.norm("blk.{i}.ffn_norm", f"{_LAYER}.post_attention_layernorm"),
        *_linear("ffn_up", "mlp.dense_h_to_4h", "ffn", "hidden"),
        *_linear("ffn_down", "mlp.dense_4h_to_h", "hidden", "ffn"),
    ),
    ignored=(r"\.rotary_emb\.inv_freq$", r"\.attention\.(masked_)?bias$"),
    head="embed_out.weight",
)
