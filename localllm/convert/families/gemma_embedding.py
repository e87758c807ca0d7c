"""EmbeddingGemma: Gemma 3 that attends to both sides, and two layers behind the pooling that make the embedding.

Reference: the `gemma-embedding` graph of llama.cpp, `Gemma3TextModel` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import DENSE, DENSE_WIDTH, Rule, decoder, gemma2, gemma3
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, u32
from localllm.errors import UnsupportedModel


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `gemma-embedding` graph does not compute."""
    gemma2.refuse_parts(config)
    gemma3.refuse_rope(config)
    config.only("attn_logit_softcapping", None)
    if not config.flag("use_bidirectional_attention"):
        raise UnsupportedModel(
            "config.json: use_bidirectional_attention is not set; llama.cpp attends to both sides in a Gemma 3 "
            "without a head.",
            hint="A Gemma 3 that writes text is named Gemma3ForCausalLM in `architectures`.",
        )


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name, with the width between the layers behind the pooling, 0 where there are none."""
    return {**decoder.dimensions(config), "between": config.whole(DENSE_WIDTH)}


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Gemma 3, and what goes in and out of the layers behind the pooling."""
    keys = {**gemma3.hyperparameters(config, arch), **gemma2.window(config, arch, every=6)}
    hidden, between = config.count("hidden_size"), config.whole(DENSE_WIDTH)
    if between:
        for name, size in (
            ("2_feat_in", hidden),
            ("2_feat_out", between),
            ("3_feat_in", between),
            ("3_feat_out", hidden),
        ):
            keys[f"{arch}.dense_{name}"] = u32(size)
    return keys


_DENSE = decoder.only_when(
    lambda config, _: config.whole(DENSE_WIDTH) > 0,
    (
        Rule("dense_2.weight", DENSE[0], ("between", "hidden")),
        Rule("dense_3.weight", DENSE[1], ("hidden", "between")),
    ),
)

FAMILY = UsualDecoder(
    arch="gemma-embedding",
    defaults={"Gemma3TextModel": gemma3.DEFAULTS},
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    extras=lambda _: [],
    rules=(*(rule for rule in gemma3.FAMILY.rules if rule.source != gemma3.FAMILY.head), *_DENSE),
    layer_rules=gemma3.FAMILY.layer_rules,
    renames=((r"^(embed_tokens|layers|norm)\.", r"model.\1."),),
    dense=True,
)
