"""Mamba and Falcon Mamba: no attention, a state that decays, and a short convolution before it.

Reference: the `mamba` graph of llama.cpp, `MambaConfig` and `FalconMambaConfig` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Family, Rule, Sizes, decoder
from localllm.convert.header import Keys, f32, flag, u32
from localllm.convert.transforms import Compute, minus_exponential
from localllm.errors import UnsupportedModel

_CONTEXT = 1 << 20
"""The length that the GGUF names; a state has no limit of its own."""

_LAYER, _BLOCK = "backbone.layers.{i}", "blk.{i}"


def dimensions(config: Config) -> Sizes:
    """Sizes that the rules name."""
    hidden, state = config.count("hidden_size"), config.count("state_size")
    automatic = config.get("time_step_rank", "auto") == "auto"
    rank = -(-hidden // 16) if automatic else config.count("time_step_rank")
    return {
        "layers": config.count("num_hidden_layers"),
        "vocab": config.count("vocab_size"),
        "hidden": hidden,
        "inner": config.count("intermediate_size", int(config.number("expand") * hidden)),
        "state": state,
        "kernel": config.count("conv_kernel"),
        "rank": rank,
        "x": rank + 2 * state,
    }


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `mamba` graph does not compute."""
    config.only("hidden_act", "silu")
    config.only("use_bias", False)
    config.only("use_conv_bias", True)
    sizes = dimensions(config)
    if sizes["inner"] != 2 * sizes["hidden"]:
        raise UnsupportedModel(
            f"config.json: the inner size is {sizes['inner']}; llama.cpp runs {config.architecture} only where it is "
            f"twice the hidden size of {sizes['hidden']}."
        )


def hyperparameters(config: Config, arch: str) -> Keys:
    """The keys of the architecture; llama.cpp wants two of attention as well."""
    sizes = dimensions(config)
    return {
        f"{arch}.context_length": u32(_CONTEXT),
        f"{arch}.embedding_length": u32(sizes["hidden"]),
        f"{arch}.feed_forward_length": u32(0),
        f"{arch}.attention.head_count": u32(0),
        f"{arch}.block_count": u32(sizes["layers"]),
        f"{arch}.ssm.conv_kernel": u32(sizes["kernel"]),
        f"{arch}.ssm.inner_size": u32(sizes["inner"]),
        f"{arch}.ssm.state_size": u32(sizes["state"]),
        f"{arch}.ssm.time_step_rank": u32(sizes["rank"]),
        f"{arch}.attention.layer_norm_rms_epsilon": f32(config.number("layer_norm_epsilon")),
        f"{arch}.ssm.dt_b_c_rms": flag(_norms_inside(config)),
    }


def _norms_inside(config: Config) -> bool:
    return config.architecture == "FalconMambaForCausalLM"


def notes(config: Config) -> list[str]:
    """Where llama.cpp and transformers differ."""
    if _norms_inside(config) and config.number("mixer_rms_eps") != config.number("layer_norm_epsilon"):
        return [
            f"llama.cpp takes {config.number('layer_norm_epsilon')} for the epsilon of the norms inside a layer too; "
            f"the checkpoint has {config.number('mixer_rms_eps')} there"
        ]
    return []


_DEFAULTS = {
    "vocab_size": 50280,
    "hidden_size": 768,
    "num_hidden_layers": 32,
    "state_size": 16,
    "expand": 2,
    "conv_kernel": 4,
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
}

FAMILY = Family(
    arch="mamba",
    defaults={
        "MambaForCausalLM": _DEFAULTS,
        "FalconMambaForCausalLM": {**_DEFAULTS, "mixer_rms_eps": 1e-6},
    },
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    notes=notes,
    rules=(
        Rule("token_embd.weight", "backbone.embeddings.weight", ("vocab", "hidden")),
        Rule("output_norm.weight", "backbone.norm_f.weight", ("hidden",)),
        Rule("output.weight", "lm_head.weight", ("vocab", "hidden")),
    ),
    layer_rules=(
        Rule(f"{_BLOCK}.attn_norm.weight", f"{_LAYER}.norm.weight", ("hidden",)),
        Rule(f"{_BLOCK}.ssm_in.weight", f"{_LAYER}.mixer.in_proj.weight", ("2 inner", "hidden")),
        decoder.convolution(f"{_BLOCK}.ssm_conv1d.weight", f"{_LAYER}.mixer.conv1d.weight", "inner"),
        Rule(f"{_BLOCK}.ssm_conv1d.bias", f"{_LAYER}.mixer.conv1d.bias", ("inner",)),
        Rule(f"{_BLOCK}.ssm_x.weight", f"{_LAYER}.mixer.x_proj.weight", ("x", "inner")),
        Rule(f"{_BLOCK}.ssm_dt.weight", f"{_LAYER}.mixer.dt_proj.weight", ("inner", "rank")),
        Rule(f"{_BLOCK}.ssm_dt.bias", f"{_LAYER}.mixer.dt_proj.bias", ("inner",)),
        Rule(f"{_BLOCK}.ssm_a", f"{_LAYER}.mixer.A_log", ("inner", "state"), lambda _: Compute(minus_exponential)),
        Rule(f"{_BLOCK}.ssm_d", f"{_LAYER}.mixer.D", ("inner",)),
        Rule(f"{_BLOCK}.ssm_out.weight", f"{_LAYER}.mixer.out_proj.weight", ("hidden", "inner")),
    ),
    renames=((r"^backbone\.embedding\.", "backbone.embeddings."),),
)
