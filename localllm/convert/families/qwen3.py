"""Qwen3: norms of the queries and keys of each head.

Reference: the `qwen3` graph of llama.cpp, `Qwen3Config` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import decoder, qwen2
from localllm.convert.families.usual import UsualDecoder


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `qwen3` graph does not compute."""
    qwen2.refuse(config)
    config.only("attention_bias", False)


FAMILY = UsualDecoder(
    arch="qwen3",
    defaults={"Qwen3ForCausalLM": {**qwen2.DEFAULTS, "head_dim": 128}},
    refuse=refuse,
    layer_rules=(*decoder.NORMS, *decoder.attention(), *decoder.QK_NORMS, *decoder.feed_forward()),
)
