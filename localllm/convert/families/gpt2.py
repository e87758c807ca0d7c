"""GPT-2: learned positions, layer norms with biases, and matrices stored as they multiply from the right (Conv1D)."""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Family, Rule, Sizes, decoder
from localllm.convert.header import Keys, f32, u32
from localllm.convert.transforms import Keep, Transpose

_LAYER, _BLOCK = "h.{i}", "blk.{i}"


def dimensions(config: Config) -> Sizes:
    """Sizes that the rules name."""
    hidden = config.count("n_embd")
    return {
        "layers": config.count("n_layer"),
        "vocab": config.count("vocab_size"),
        "hidden": hidden,
        "ffn": config.count("n_inner", 4 * hidden),
        "positions": config.count("n_positions"),
    }


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `gpt2` graph does not compute."""
    config.only("activation_function", "gelu_new", "gelu_pytorch_tanh", "gelu_fast")
    config.only("scale_attn_weights", True)
    config.only("scale_attn_by_inverse_layer_idx", False)
    config.only("add_cross_attention", False)


def hyperparameters(config: Config, arch: str) -> Keys:
    """The keys of the architecture, in the order of the reference converter."""
    sizes = dimensions(config)
    return {
        f"{arch}.block_count": u32(sizes["layers"]),
        f"{arch}.context_length": u32(sizes["positions"]),
        f"{arch}.embedding_length": u32(sizes["hidden"]),
        f"{arch}.feed_forward_length": u32(sizes["ffn"]),
        f"{arch}.attention.head_count": u32(config.count("n_head")),
        f"{arch}.attention.layer_norm_epsilon": f32(config.number("layer_norm_epsilon")),
    }


def _matrix(name: str, source: str, inputs: str, outputs: str) -> tuple[Rule, Rule]:
    """A matrix that is stored transposed, and its bias."""
    return (
        Rule(
            f"{_BLOCK}.{name}.weight",
            f"{_LAYER}.{source}.weight",
            (inputs, outputs),
            lambda sizes: Transpose(Keep(), Rule("", "", (inputs, outputs)).source_shape(sizes)),
        ),
        Rule(f"{_BLOCK}.{name}.bias", f"{_LAYER}.{source}.bias", (outputs,)),
    )


FAMILY = Family(
    arch="gpt2",
    defaults={
        "GPT2LMHeadModel": {
            "vocab_size": 50257,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "n_positions": 1024,
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": True,
        },
    },
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    rules=(
        Rule("token_embd.weight", "wte.weight", ("vocab", "hidden")),
        Rule("position_embd.weight", "wpe.weight", ("positions", "hidden")),
        *decoder.norm("output_norm", "ln_f"),
        Rule("output.weight", "lm_head.weight", ("vocab", "hidden")),
    ),
    layer_rules=(
        *decoder.norm(f"{_BLOCK}.attn_norm", f"{_LAYER}.ln_1"),
        *_matrix("attn_qkv", "attn.c_attn", "hidden", "3 hidden"),
        *_matrix("attn_output", "attn.c_proj", "hidden", "hidden"),
        *decoder.norm(f"{_BLOCK}.ffn_norm", f"{_LAYER}.ln_2"),
        *_matrix("ffn_up", "mlp.c_fc", "hidden", "ffn"),
        *_matrix("ffn_down", "mlp.c_proj", "ffn", "hidden"),
    ),
    renames=((r"^transformer\.", ""),),
    ignored=(r"\.attn\.(masked_)?bias$",),
)
