"""BERT, RoBERTa and XLM-RoBERTa, DistilBERT: encoders for embeddings, with norms behind what they normalize.

RoBERTa's positions count from behind its padding token: the rows before are never used and left out.

Reference: the `bert` graph of llama.cpp, `BertConfig`, `RobertaConfig` and `DistilBertConfig` of transformers.
"""

from __future__ import annotations

from functools import partial

from localllm.convert.config import Config
from localllm.convert.families import Family, Rule, Sizes, decoder
from localllm.convert.header import Keys, f32, flag, u32
from localllm.convert.transforms import Transform, part
from localllm.errors import BadCheckpoint

_LAYER, _BLOCK = "encoder.layer.{i}", "blk.{i}"

_HEADS = (
    (r"^(cls|lm_head|vocab_\w+)\.", "The GGUF gives embeddings: the head that predicts masked tokens is left out"),
    (r"^pooler\.", "The dense layer of the pooler, which llama.cpp does not apply to embeddings, is left out"),
)


def dimensions(config: Config) -> Sizes:
    """Sizes that the rules name."""
    return {
        "layers": config.count("num_hidden_layers"),
        "vocab": config.count("vocab_size"),
        "hidden": config.count("hidden_size"),
        "ffn": config.count("intermediate_size"),
        "stored_positions": config.count("max_position_embeddings"),
        "positions": config.count("max_position_embeddings"),
        "types": config.count("type_vocab_size"),
    }


def shifted_dimensions(config: Config) -> Sizes:
    """The same, with fewer positions than are stored."""
    sizes = dimensions(config)
    positions = sizes["stored_positions"] - 1 - int(config.get("pad_token_id", 1))
    if positions < 1:
        raise BadCheckpoint(f"config.json: pad_token_id leaves none of {sizes['stored_positions']} positions.")
    return {**sizes, "positions": positions}


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `bert` graph does not compute."""
    config.only("hidden_act", *decoder.GELU)
    config.only("position_embedding_type", "absolute")
    config.only("is_decoder", False)
    config.only("add_cross_attention", False)
    config.only("sinusoidal_pos_embds", False)
    decoder.whole_hidden(config)


def _keys(config: Config, arch: str, sizes: Sizes) -> Keys:
    return {
        f"{arch}.block_count": u32(sizes["layers"]),
        f"{arch}.context_length": u32(sizes["positions"]),
        f"{arch}.embedding_length": u32(sizes["hidden"]),
        f"{arch}.feed_forward_length": u32(sizes["ffn"]),
        f"{arch}.attention.head_count": u32(config.count("num_attention_heads")),
        f"{arch}.attention.layer_norm_epsilon": f32(config.number("layer_norm_eps")),
        f"{arch}.attention.causal": flag(False),
        "tokenizer.ggml.token_type_count": u32(sizes["types"]),
    }


def hyperparameters(config: Config, arch: str) -> Keys:
    """The keys of an encoder, and how many types of tokens there are."""
    return _keys(config, arch, dimensions(config))


def shifted_hyperparameters(config: Config, arch: str) -> Keys:
    """The same for positions that count from behind the padding token."""
    return _keys(config, arch, shifted_dimensions(config))


def _positions(sizes: Sizes) -> Transform:
    return part(sizes["stored_positions"] - sizes["positions"], sizes["stored_positions"], sizes["hidden"])


def _linear(name: str, source: str, *shape: str) -> tuple[Rule, Rule]:
    return decoder.with_bias(Rule(f"{_BLOCK}.{name}.weight", f"{_LAYER}.{source}.weight", shape))


_RULES = (
    Rule("token_embd.weight", "embeddings.word_embeddings.weight", ("vocab", "hidden")),
    Rule("position_embd.weight", "embeddings.position_embeddings.weight", ("stored_positions", "hidden"), _positions),
    *decoder.norm("token_embd_norm", "embeddings.LayerNorm"),
)

_TYPES = Rule("token_types.weight", "embeddings.token_type_embeddings.weight", ("types", "hidden"))

_LAYER_RULES = (
    *_linear("attn_q", "attention.self.query", "hidden", "hidden"),
    *_linear("attn_k", "attention.self.key", "hidden", "hidden"),
    *_linear("attn_v", "attention.self.value", "hidden", "hidden"),
    *_linear("attn_output", "attention.output.dense", "hidden", "hidden"),
    *decoder.norm(f"{_BLOCK}.attn_output_norm", f"{_LAYER}.attention.output.LayerNorm"),
    *_linear("ffn_up", "intermediate.dense", "ffn", "hidden"),
    *_linear("ffn_down", "output.dense", "hidden", "ffn"),
    *decoder.norm(f"{_BLOCK}.layer_output_norm", f"{_LAYER}.output.LayerNorm"),
)

_encoder = partial(
    Family,
    arch="bert",
    refuse=refuse,
    notes=decoder.gelu_notes,
    layer_rules=_LAYER_RULES,
    ignored=(r"^embeddings\.position_ids$",),
    left_out=_HEADS,
)
"""What all of them are; each adds its names and its positions."""

_DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}

FAMILIES = (
    _encoder(
        defaults=dict.fromkeys(("BertModel", "BertForMaskedLM"), _DEFAULTS),
        dimensions=dimensions,
        hyperparameters=hyperparameters,
        rules=(*_RULES, _TYPES),
        renames=((r"^bert\.", ""), (r"\.gamma$", ".weight"), (r"\.beta$", ".bias")),
    ),
    _encoder(
        defaults={
            "RobertaModel": {**_DEFAULTS, "vocab_size": 50265},
            "RobertaForMaskedLM": {**_DEFAULTS, "vocab_size": 50265},
            "XLMRobertaModel": _DEFAULTS,
            "XLMRobertaForMaskedLM": _DEFAULTS,
        },
        dimensions=shifted_dimensions,
        hyperparameters=shifted_hyperparameters,
        rules=(*_RULES, _TYPES),
        renames=((r"^roberta\.", ""), (r"\.gamma$", ".weight"), (r"\.beta$", ".bias")),
    ),
    _encoder(
        defaults={name: {**_DEFAULTS, "type_vocab_size": 1} for name in ("DistilBertModel", "DistilBertForMaskedLM")},
        aliases={
            "dim": "hidden_size",
            "n_layers": "num_hidden_layers",
            "n_heads": "num_attention_heads",
            "hidden_dim": "intermediate_size",
            "activation": "hidden_act",
        },
        dimensions=dimensions,
        hyperparameters=hyperparameters,
        rules=_RULES,
        renames=(
            (r"^distilbert\.", ""),
            (r"^transformer\.", "encoder."),
            (r"\.attention\.q_lin\.", ".attention.self.query."),
            (r"\.attention\.k_lin\.", ".attention.self.key."),
            (r"\.attention\.v_lin\.", ".attention.self.value."),
            (r"\.attention\.out_lin\.", ".attention.output.dense."),
            (r"\.sa_layer_norm\.", ".attention.output.LayerNorm."),
            (r"\.ffn\.lin1\.", ".intermediate.dense."),
            (r"\.ffn\.lin2\.", ".output.dense."),
            (r"\.output_layer_norm\.", ".output.LayerNorm."),
        ),
    ),
)
