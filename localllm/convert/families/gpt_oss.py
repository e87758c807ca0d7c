"""gpt-oss: attention with sinks, every second layer on a window, experts with biases and a clamped SwiGLU.

Gate and up of an expert stand in alternating columns of one matrix that multiplies from the right. Packed in MXFP4, as
the model is published, they stand in alternating rows of one that multiplies from the left (`X.mxfp4`).

Reference: the `gpt-oss` graph of llama.cpp, `GptOssConfig` and `GptOssExperts` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, Sizes, decoder, experts, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, u32
from localllm.convert.transforms import EveryOtherColumn, EveryOtherRow, Keep, Transform, Transpose


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `gpt-oss` graph does not compute."""
    config.only("hidden_act", "silu")
    config.only("swiglu_alpha", 1.702)
    config.only("swiglu_limit", 7)
    config.only("attention_bias", True)
    config.only("tie_word_embeddings", False)
    rope.refuse(config, rope.WITHOUT_FACTORS, exact_ramp=False)


def notes(config: Config) -> list[str]:
    """Where llama.cpp differs."""
    if config.rope.kind != "yarn" or config.rope.parameters.get("truncate", True):
        return []
    return [
        "llama.cpp rounds the ends of YaRN's ramp to whole frequencies, which this model was trained without: "
        "positions differ a little from transformers, as they do in every GGUF of it"
    ]


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name; an expert is as wide as the feed-forward layer would be."""
    return {**experts.dimensions(config), "heads": config.count("num_attention_heads")}


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama, the window and the numbers of experts."""
    return {
        **decoder.hyperparameters(config, arch),
        **experts.keys(config, arch),
        f"{arch}.expert_feed_forward_length": u32(config.count("intermediate_size")),
        **decoder.window(config, arch),
    }


_MLP = f"{decoder.LAYER}.mlp"
_EXPERTS = f"{_MLP}.experts"


def _interleaved(number: int) -> tuple[Rule, ...]:
    """The matrix and the bias of the gates (0) or of the ups (1)."""

    def matrices(sizes: Sizes) -> Transform:
        return Transpose(EveryOtherColumn(number), (sizes["experts"], sizes["hidden"], sizes["ffn"]))

    name = f"blk.{{i}}.ffn_{('gate', 'up')[number]}_exps"
    source = f"{_EXPERTS}.gate_up_proj"
    return (
        Rule(f"{name}.weight", source, ("experts", "hidden", "2 ffn"), matrices),
        Rule(f"{name}.weight", f"{source}.mxfp4", ("experts", "2 ffn", "hidden"), lambda _: EveryOtherRow(number)),
        Rule(f"{name}.bias", f"{source}_bias", ("experts", "2 ffn"), lambda _: EveryOtherColumn(number)),
    )


EXPERTS = (
    Rule("blk.{i}.ffn_gate_inp.weight", f"{_MLP}.router.weight", ("experts", "hidden")),
    Rule("blk.{i}.ffn_gate_inp.bias", f"{_MLP}.router.bias", ("experts",)),
    *_interleaved(0),
    *_interleaved(1),
    Rule(
        "blk.{i}.ffn_down_exps.weight",
        f"{_EXPERTS}.down_proj",
        ("experts", "ffn", "hidden"),
        lambda sizes: Transpose(Keep(), (sizes["experts"], sizes["ffn"], sizes["hidden"])),
    ),
    Rule("blk.{i}.ffn_down_exps.weight", f"{_EXPERTS}.down_proj.mxfp4", ("experts", "hidden", "ffn")),
    Rule("blk.{i}.ffn_down_exps.bias", f"{_EXPERTS}.down_proj_bias", ("experts", "hidden")),
)

FAMILY = UsualDecoder(
    arch="gpt-oss",
    defaults={
        "GptOssForCausalLM": {
            "vocab_size": 201088,
            "hidden_size": 2880,
            "intermediate_size": 2880,
            "num_hidden_layers": 36,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "num_local_experts": 128,
            "num_experts_per_tok": 4,
            "sliding_window": 128,
            "sliding_window_pattern": 2,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 150000.0,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 32.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
                "original_max_position_embeddings": 4096,
            },
        },
    },
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    notes=notes,
    layer_rules=(
        decoder.INPUT_NORM,
        *decoder.attention(bias="qkvo"),
        Rule("blk.{i}.attn_sinks.weight", f"{decoder.LAYER}.self_attn.sinks", ("heads",)),
        decoder.POST_ATTENTION_NORM,
        *EXPERTS,
    ),
)
