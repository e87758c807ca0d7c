"""DeepSeek V2 and V3, and what has their layers (V2-Lite, R1, Moonlight, Kimi K2): latent attention and many experts.

Attention runs on one latent key-value head: the matrix that makes keys and values of it is split, and the half of the
keys transposed, so that llama.cpp can apply it to the queries instead.

Reference: the `deepseek2` graph of llama.cpp, `DeepseekV2Config` and `DeepseekV3Config` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, Sizes, decoder, experts, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, f32, flag, u32
from localllm.convert.transforms import Join, Segment, Transform, Transpose
from localllm.errors import BadCheckpoint, UnsupportedModel

_LITE = {26: None, 27: None, 48: 128256}
"""Layers of models that llama.cpp takes for lite ones, whose queries have no latent: whatever the vocabulary or, where
a number follows, with a vocabulary of that size. In others it asks the metadata. Source: `load_arch_hparams`."""


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `deepseek2` graph does not compute."""
    config.only("hidden_act", "silu")
    config.only("attention_bias", False)
    config.only("moe_layer_freq", 1)
    config.only("rope_interleave", True)
    if config.get("q_lora_rank") is not None:
        layers, vocab = config.count("num_hidden_layers"), config.count("vocab_size")
        if _LITE.get(layers, 0) in (None, vocab):
            raise UnsupportedModel(
                f"config.json: q_lora_rank with {layers} layers and a vocabulary of {vocab}; llama.cpp takes such a "
                f"model for a lite one, without."
            )
    _refuse_rope(config)


def _refuse_rope(config: Config) -> None:
    """llama.cpp scales attention by the weight that YaRN gives all dimensions, and rotated ones by nothing more."""
    rope.refuse(config, rope.WITHOUT_FACTORS)
    if config.rope.kind == "yarn":
        weights = [config.rope.parameters.get(name) for name in ("mscale", "mscale_all_dim")]
        if not weights[0] or weights[0] != weights[1] or config.rope.parameters.get("attention_factor") is not None:
            raise UnsupportedModel(
                f"config.json: YaRN with mscale {weights[0]} and mscale_all_dim {weights[1]}; llama.cpp computes "
                f"{config.architecture} only where they are the same."
            )


def refuse_second(config: Config) -> None:
    """Refuse what DeepSeek V2 has not."""
    refuse(config)
    config.only("scoring_func", "softmax")
    config.only("topk_method", "greedy", "group_limited_greedy")
    config.only("norm_topk_prob", False)


def refuse_third(config: Config) -> None:
    """Refuse what DeepSeek V3 has not."""
    refuse(config)
    config.only("scoring_func", "sigmoid")
    config.only("topk_method", "noaux_tc")


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name: `nope` and `rope` are the parts of a head of queries without and with positions.

    Raises:
        BadCheckpoint: sizes that are missing.
    """
    heads = config.count("num_attention_heads")
    nope, rotated = config.count("qk_nope_head_dim"), config.count("qk_rope_head_dim")
    value, latent, width = (
        config.count("v_head_dim"),
        config.count("kv_lora_rank"),
        config.count("moe_intermediate_size"),
    )
    if rotated % 2:
        raise BadCheckpoint(f"config.json: qk_rope_head_dim is {rotated}; rotary positions turn pairs.")
    return {
        "layers": config.count("num_hidden_layers"),
        "vocab": config.count("vocab_size"),
        "hidden": config.count("hidden_size"),
        "ffn": config.count("intermediate_size"),
        "heads": heads,
        "nope": nope,
        "rope": rotated,
        "value": value,
        "latent": latent,
        "latent_rope": latent + rotated,
        "q": heads * (nope + rotated),
        "q_latent": config.whole("q_lora_rank"),
        "kv": heads * (nope + value),
        "out": heads * value,
        "experts": config.count("n_routed_experts"),
        "expert_ffn": width,
        "shared_ffn": width * config.count("n_shared_experts"),
    }


def hyperparameters(config: Config, arch: str, gating: int) -> Keys:
    """The keys of the architecture; `gating` is llama.cpp's number for what scores the experts."""
    sizes = dimensions(config)
    positions = rope.keys(config.rope, arch)
    positions.pop(f"{arch}.rope.scaling.attn_factor", None)
    if config.rope.kind == "yarn":
        # A tenth, because the loader multiplies it by ten for this architecture.
        log_multiplier = 0.1 * config.rope.number("mscale_all_dim")
        positions[f"{arch}.rope.scaling.yarn_log_multiplier"] = f32(log_multiplier)
    return {
        f"{arch}.block_count": u32(sizes["layers"]),
        f"{arch}.context_length": u32(config.count("max_position_embeddings")),
        f"{arch}.embedding_length": u32(sizes["hidden"]),
        f"{arch}.feed_forward_length": u32(sizes["ffn"]),
        f"{arch}.attention.head_count": u32(sizes["heads"]),
        f"{arch}.attention.head_count_kv": u32(1),
        **positions,
        f"{arch}.attention.layer_norm_rms_epsilon": f32(config.number("rms_norm_eps")),
        f"{arch}.vocab_size": u32(sizes["vocab"]),
        f"{arch}.leading_dense_block_count": u32(config.whole("first_k_dense_replace")),
        f"{arch}.attention.q_lora_rank": u32(sizes["q_latent"]),
        f"{arch}.attention.kv_lora_rank": u32(sizes["latent"]),
        f"{arch}.attention.key_length": u32(sizes["latent_rope"]),
        f"{arch}.attention.value_length": u32(sizes["latent"]),
        f"{arch}.attention.key_length_mla": u32(sizes["nope"] + sizes["rope"]),
        f"{arch}.attention.value_length_mla": u32(sizes["value"]),
        f"{arch}.rope.dimension_count": u32(sizes["rope"]),
        **experts.keys(config, arch, count="n_routed_experts"),
        **experts.groups(config, arch),
        f"{arch}.expert_gating_func": u32(gating),
        f"{arch}.expert_feed_forward_length": u32(sizes["expert_ffn"]),
        f"{arch}.expert_shared_count": u32(config.count("n_shared_experts")),
        f"{arch}.expert_weights_scale": f32(config.number("routed_scaling_factor")),
        f"{arch}.expert_weights_norm": flag(config.flag("norm_topk_prob")),
    }


def notes(config: Config) -> list[str]:
    """Where llama.cpp differs."""
    if config.number("rms_norm_eps") == _LATENT_EPSILON:
        return []
    return [f"The norms of the latents get {config.number('rms_norm_eps')} for their epsilon, not {_LATENT_EPSILON}"]


_LATENT_EPSILON = 1e-6
"""What transformers takes whatever the file says."""


def notes_second(config: Config) -> list[str]:
    """Where llama.cpp differs for DeepSeek V2."""
    grouped = config.get("topk_method") == "group_limited_greedy"
    if grouped and experts.groups(config, ""):
        return [
            *notes(config),
            "The model chooses groups of experts by the best expert of each, llama.cpp by the best two: some tokens "
            "pass other experts than in transformers",
        ]
    return notes(config)


def _keys_of_each_head(sizes: Sizes) -> Transform:
    """The rows of the keys of each head, transposed: (heads, latent, nope)."""
    return Transpose(_part_of_each_head(sizes, 0, "nope"), (sizes["heads"], sizes["nope"], sizes["latent"]))


def _part_of_each_head(sizes: Sizes, first: int, rows: str) -> Join:
    every, count = sizes["nope"] + sizes["value"], sizes[rows]
    starts = [head * every + first for head in range(sizes["heads"])]
    shape = (sizes["heads"], count, sizes["latent"])
    return Join(tuple(Segment(0, start, start + count) for start in starts), shape)


def _is_dense(config: Config, layer: int) -> bool:
    return layer < config.whole("first_k_dense_replace")


def _has_latent_queries(config: Config, _: int) -> bool:
    return config.get("q_lora_rank") is not None


_ATTENTION = f"{decoder.LAYER}.self_attn"
_KV_B = f"{_ATTENTION}.kv_b_proj.weight"
_MLP = f"{decoder.LAYER}.mlp"

ATTENTION = (
    *decoder.only_when(
        _has_latent_queries,
        (
            Rule("blk.{i}.attn_q_a.weight", f"{_ATTENTION}.q_a_proj.weight", ("q_latent", "hidden")),
            Rule("blk.{i}.attn_q_a_norm.weight", f"{_ATTENTION}.q_a_layernorm.weight", ("q_latent",)),
            Rule("blk.{i}.attn_q_b.weight", f"{_ATTENTION}.q_b_proj.weight", ("q", "q_latent")),
        ),
    ),
    *decoder.only_when(
        lambda config, layer: not _has_latent_queries(config, layer),
        (Rule("blk.{i}.attn_q.weight", f"{_ATTENTION}.q_proj.weight", ("q", "hidden")),),
    ),
    Rule("blk.{i}.attn_kv_a_mqa.weight", f"{_ATTENTION}.kv_a_proj_with_mqa.weight", ("latent_rope", "hidden")),
    Rule("blk.{i}.attn_kv_a_norm.weight", f"{_ATTENTION}.kv_a_layernorm.weight", ("latent",)),
    Rule("blk.{i}.attn_k_b.weight", _KV_B, ("kv", "latent"), _keys_of_each_head),
    Rule(
        "blk.{i}.attn_v_b.weight",
        _KV_B,
        ("kv", "latent"),
        lambda sizes: _part_of_each_head(sizes, sizes["nope"], "value"),
    ),
    Rule("blk.{i}.attn_output.weight", f"{_ATTENTION}.o_proj.weight", ("hidden", "out")),
)

LAYER_RULES = (
    *decoder.NORMS,
    *ATTENTION,
    *decoder.only_when(_is_dense, decoder.feed_forward()),
    *decoder.only_when(
        lambda config, layer: not _is_dense(config, layer),
        (
            Rule("blk.{i}.ffn_gate_inp.weight", f"{_MLP}.gate.weight", ("experts", "hidden")),
            *experts.rules(),
            *experts.shared_rules(),
        ),
    ),
)

_DEFAULTS = {
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}

FAMILIES = (
    UsualDecoder(
        arch="deepseek2",
        defaults={
            "DeepseekV2ForCausalLM": {
                **_DEFAULTS,
                "vocab_size": 102400,
                "hidden_size": 4096,
                "intermediate_size": 11008,
                "moe_intermediate_size": 1407,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "max_position_embeddings": 2048,
                "n_routed_experts": 64,
                "n_shared_experts": 2,
                "num_experts_per_tok": 6,
                "routed_scaling_factor": 1.0,
                "first_k_dense_replace": 0,
                "topk_method": "greedy",
            }
        },
        dimensions=dimensions,
        hyperparameters=lambda config, arch: hyperparameters(config, arch, experts.SOFTMAX),
        refuse=refuse_second,
        notes=notes_second,
        layer_rules=LAYER_RULES,
    ),
    UsualDecoder(
        arch="deepseek2",
        defaults={
            "DeepseekV3ForCausalLM": {
                **_DEFAULTS,
                "vocab_size": 129280,
                "hidden_size": 7168,
                "intermediate_size": 18432,
                "moe_intermediate_size": 2048,
                "num_hidden_layers": 61,
                "num_attention_heads": 128,
                "max_position_embeddings": 4096,
                "n_routed_experts": 256,
                "n_shared_experts": 1,
                "num_experts_per_tok": 8,
                "n_group": 8,
                "topk_group": 4,
                "norm_topk_prob": True,
                "routed_scaling_factor": 2.5,
                "first_k_dense_replace": 3,
                "num_nextn_predict_layers": 1,
            }
        },
        dimensions=dimensions,
        hyperparameters=lambda config, arch: hyperparameters(config, arch, experts.SIGMOID),
        refuse=refuse_third,
        notes=notes,
        layer_rules=(
            *LAYER_RULES,
            *decoder.only_when(
                lambda config, layer: not _is_dense(config, layer),
                (Rule("blk.{i}.exp_probs_b.bias", f"{_MLP}.gate.e_score_correction_bias", ("experts",)),),
            ),
        ),
        next_layers=decoder.next_layers,
    ),
)
