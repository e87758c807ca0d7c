"""Gemma 3n: four hidden states that predict each other, inputs for each layer, and last layers that reuse keys.

llama.cpp's graph has most of the sizes of the published models built in; others are refused.

Reference: the `gemma3n` graph of llama.cpp, `Gemma3nTextConfig` and `Gemma3nTextModel` of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

from localllm.convert.config import Config
from localllm.convert.families import Rule, Sizes, decoder, gemma2, gemma3, multimodal
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, f32s, flags, u32
from localllm.convert.transforms import Join, Segment, Transform, stack
from localllm.errors import BadCheckpoint, UnsupportedModel

_OWN_KEYS = 20
"""llama.cpp takes the keys and values of so many layers; those behind reuse the last of them of their kind."""

_SPARSE = 10
"""llama.cpp cuts off the gates of so many layers, and of no other."""

_SPARSITY = 0.95


def _one_width(config: Config) -> Config:
    """The same with one width for all feed-forward layers; transformers writes that of each of them.

    Raises:
        UnsupportedModel: they are not the same.
    """
    widths = config.get("intermediate_size")
    if not isinstance(widths, list):
        return config
    if len(set(widths)) != 1:
        raise UnsupportedModel("config.json: llama.cpp runs Gemma 3n only where all layers have one intermediate_size.")
    return Config({**config.values, "intermediate_size": widths[0]})


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name."""
    return {
        **decoder.dimensions(_one_width(config)),
        "input": config.count("hidden_size_per_layer_input"),
        "inputs": config.count("num_hidden_layers") * config.count("hidden_size_per_layer_input"),
        "input_vocab": config.count("vocab_size_per_layer_input"),
        "states": config.count("altup_num_inputs"),
        "others": config.count("altup_num_inputs") - 1,
        "rank": config.count("laurel_rank"),
    }


def sparsities(config: Config) -> list[float]:
    """The part of the gates of each layer that is cut off.

    Raises:
        BadCheckpoint: not one number for each layer.
    """
    layers = config.count("num_hidden_layers")
    usual = [_SPARSITY] * (_SPARSE if layers > _SPARSE else 0)
    found = config.get("activation_sparsity_pattern", usual + [0.0] * (layers - len(usual)))
    if not isinstance(found, list) or len(found) != layers or not all(_is_part(part) for part in found):
        raise BadCheckpoint(
            f"config.json: activation_sparsity_pattern is {str(found)[:60]}, not {layers} parts of one."
        )
    return found


def _is_part(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `gemma3n` graph does not compute."""
    gemma3.refuse_rope(config)
    gemma2.refuse_uncapped(config, "final_logit_softcapping")
    _one_width(config)
    for name, only in (
        ("hidden_activation", "gelu_pytorch_tanh"),
        ("attention_bias", False),
        ("final_logit_softcapping", 30.0),
        ("altup_num_inputs", 4),
        ("altup_active_idx", 0),
        ("altup_correct_scale", True),
        ("hidden_size_per_layer_input", 256),
        ("laurel_rank", 64),
    ):
        config.only(name, only)
    layers, shared = config.count("num_hidden_layers"), config.whole("num_kv_shared_layers")
    if layers - shared != _OWN_KEYS:
        raise UnsupportedModel(
            f"config.json: {layers - shared} of {layers} layers have keys and values of their own; "
            f"llama.cpp runs Gemma 3n only with {_OWN_KEYS}."
        )
    refuse_reuse(decoder.sliding_layers(config), _OWN_KEYS)
    if sparsities(config) != [_SPARSITY] * _SPARSE + [0.0] * (layers - _SPARSE):
        raise UnsupportedModel(
            f"config.json: activation_sparsity_pattern must be {_SPARSITY} in the first {_SPARSE} layers and 0 behind; "
            f"llama.cpp reads none from the file."
        )


def refuse_reuse(windows: Sequence[bool], own: int) -> None:
    """Refuse keys that are reused from other layers than llama.cpp takes them from.

    `windows` are the layers that slide one; the first `own` of them have keys and values of their own.

    Raises:
        UnsupportedModel: the last two of these are not one with a window and one without.
    """
    if own < len(windows) and list(windows[max(own - 2, 0) : own]) != [True, False]:
        raise UnsupportedModel(
            "config.json: the last two layers with keys of their own must be one with a window and one without, "
            "from which llama.cpp's layers behind take them."
        )


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Gemma 3 with all that the published files have, though llama.cpp has some of it built in."""
    keys = gemma3.hyperparameters(_one_width(config), arch)
    return {
        **keys,
        f"{arch}.attention.sliding_window_pattern": flags(decoder.sliding_layers(config)),
        f"{arch}.attention.shared_kv_layers": u32(config.whole("num_kv_shared_layers")),
        f"{arch}.altup.active_idx": u32(config.whole("altup_active_idx")),
        f"{arch}.altup.num_inputs": u32(config.count("altup_num_inputs")),
        f"{arch}.embedding_length_per_layer_input": u32(config.count("hidden_size_per_layer_input")),
        f"{arch}.activation_sparsity_scale": f32s([cut_off(part) for part in sparsities(config)]),
    }


def cut_off(part: float) -> float:
    """How many standard deviations above the mean a gate must be when this part of them is cut off."""
    return NormalDist().inv_cdf(part) if part else float("-inf")


def _with_rows_of_padding(sizes: Sizes) -> Transform:
    """Inputs of the tokens that have none, such as those that stand for images: transformers takes those of token 0."""
    given, wanted = sizes["input_vocab"], sizes["vocab"]
    rows = (Segment(0, 0, min(given, wanted)), *(Segment(0, 0, 1) for _ in range(given, wanted)))
    return Join(rows, (wanted, sizes["inputs"]))


def _others(sizes: Sizes) -> Transform:
    return stack(sizes["others"], (sizes["hidden"], sizes["hidden"]))


def _reused(layer: int, *, slides: bool) -> tuple[Rule, ...]:
    """The keys and values of layers that reuse those of `layer`: llama.cpp wants weights in their place, unread.

    Published checkpoints hold some, transformers 5 does not save them.
    """

    def reuses(config: Config, number: int) -> bool:
        return number >= _OWN_KEYS and decoder.sliding_layers(config)[number] == slides

    return decoder.only_when(
        reuses,
        tuple(
            Rule(rule.name, rule.source.replace("{i}", str(layer)), rule.shape)
            for rule in (*decoder.attention(), *decoder.QK_NORMS)
            if "attn_k" in rule.name or "attn_v" in rule.name
        ),
    )


_LAYER, _BLOCK = decoder.LAYER, decoder.BLOCK

INPUT_EMBEDDINGS = (
    Rule(
        "per_layer_token_embd.weight",
        "model.embed_tokens_per_layer.weight",
        ("input_vocab", "inputs"),
        _with_rows_of_padding,
    ),
    Rule("per_layer_model_proj.weight", "model.per_layer_model_projection.weight", ("inputs", "hidden")),
    Rule("per_layer_proj_norm.weight", "model.per_layer_projection_norm.weight", ("input",)),
)
"""What the inputs of all layers are made from."""

_STATES = tuple(
    Rule(f"{name}.weight", f"model.{source}.{{e}}.weight", ("hidden", "hidden"), _others, each="others")
    for name, source in (
        ("altup_proj", "altup_projections"),
        ("altup_unembd_proj", "altup_unembed_projections"),
    )
)

INPUTS = (
    Rule(f"{_BLOCK}.inp_gate.weight", f"{_LAYER}.per_layer_input_gate.weight", ("input", "hidden")),
    Rule(f"{_BLOCK}.proj.weight", f"{_LAYER}.per_layer_projection.weight", ("hidden", "input")),
    Rule(f"{_BLOCK}.post_norm.weight", f"{_LAYER}.post_per_layer_input_norm.weight", ("hidden",)),
)
"""What the inputs of a layer add to its output."""

_ALTUP = (
    Rule(f"{_BLOCK}.altup_correct_coef.weight", f"{_LAYER}.altup.correction_coefs.weight", ("states", "states")),
    Rule(f"{_BLOCK}.altup_correct_scale.weight", f"{_LAYER}.altup.correct_output_scale", ("hidden",)),
    Rule(f"{_BLOCK}.altup_predict_coef.weight", f"{_LAYER}.altup.prediction_coefs.weight", ("states states", "states")),
    Rule(f"{_BLOCK}.altup_router.weight", f"{_LAYER}.altup.modality_router.weight", ("states", "hidden")),
    Rule(f"{_BLOCK}.altup_router_norm.weight", f"{_LAYER}.altup.router_norm.weight", ("hidden",)),
    Rule(f"{_BLOCK}.laurel_l.weight", f"{_LAYER}.laurel.linear_left.weight", ("rank", "hidden")),
    Rule(f"{_BLOCK}.laurel_r.weight", f"{_LAYER}.laurel.linear_right.weight", ("hidden", "rank")),
    Rule(f"{_BLOCK}.laurel_post_norm.weight", f"{_LAYER}.laurel.post_laurel_norm.weight", ("hidden",)),
)

_DEFAULTS = {
    "vocab_size": 262400,
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 35,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "tie_word_embeddings": True,
    "sliding_window": 512,
    "sliding_window_pattern": 5,
    "final_logit_softcapping": 30.0,
    "vocab_size_per_layer_input": 262144,
    "hidden_size_per_layer_input": 256,
    "altup_active_idx": 0,
    "altup_num_inputs": 4,
    "num_kv_shared_layers": 15,
    "laurel_rank": 64,
}

FAMILY = UsualDecoder(
    arch="gemma3n",
    defaults={"Gemma3nForCausalLM": _DEFAULTS, "Gemma3nForConditionalGeneration": _DEFAULTS},
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    extras=lambda _: [],
    rules=(*decoder.EMBEDDINGS, *INPUT_EMBEDDINGS, *_STATES),
    layer_rules=(
        *gemma2.NORMS_AROUND,
        *decoder.QK_NORMS,
        *decoder.attention(),
        *_reused(_OWN_KEYS - 2, slides=True),
        *_reused(_OWN_KEYS - 1, slides=False),
        *decoder.feed_forward(),
        *_ALTUP,
        *INPUTS,
    ),
    renames=multimodal.RENAMES,
    left_out=multimodal.LEFT_OUT,
)
