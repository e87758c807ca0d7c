"""LongRoPE: two tensors of factors and a scale of attention, which no other family has."""

from __future__ import annotations

import math
from typing import Any

import pytest

from localllm.convert.config import Config
from localllm.convert.families import phi3
from localllm.errors import BadCheckpoint

FACTORS = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}


def _config(**rope: Any) -> Config:
    values = {"architectures": ["Phi3ForCausalLM"], "hidden_size": 64, "num_attention_heads": 4}
    sizes = {"max_position_embeddings": 131072, "rope_scaling": {"type": "longrope", **FACTORS, **rope}}
    return phi3.FAMILY.complete(Config(values | sizes))


def _scale(config: Config) -> float:
    value: float = phi3.hyperparameters(config, "phi3")["phi3.rope.scaling.attn_factor"].value
    return value


def test_attention_is_scaled_by_how_much_longer_the_context_became() -> None:
    assert _scale(_config()) == pytest.approx(math.sqrt(1 + math.log(32) / math.log(4096)))
    assert _scale(_config(factor=4.0)) == pytest.approx(math.sqrt(1 + math.log(4) / math.log(4096)))
    assert _scale(_config(factor=1.0)) == 1
    assert _scale(_config(attention_factor=1.25)) == 1.25


@pytest.mark.parametrize("kind", ["su", "longrope"])
def test_the_name_of_the_first_files_is_known(kind: str) -> None:
    config = _config(type=kind)
    assert [extra.name for extra in phi3.extras(config)] == ["rope_factors_long.weight", "rope_factors_short.weight"]


@pytest.mark.parametrize(("found", "says"), [([1.0] * 7, "7 long factors, not 8"), (None, "no long factors, not 8")])
def test_factors_that_do_not_fit_the_heads_are_an_error(found: Any, says: str) -> None:
    with pytest.raises(BadCheckpoint, match=says):
        phi3.extras(_config(long_factor=found))
