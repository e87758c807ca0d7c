"""config.json in both dialects, and values that are not what they should be."""

from __future__ import annotations

import pytest

from localllm.convert.config import Config
from localllm.errors import BadCheckpoint, UnsupportedModel

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def test_the_old_and_the_new_dialect_say_the_same_of_rope() -> None:
    old = Config({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}).rope
    new = Config({"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3}}).rope
    assert (old.kind, old.theta) == (new.kind, new.theta) == ("llama3", 500000.0)
    assert all(old.number(name) == new.number(name) for name in LLAMA3)


def test_the_oldest_spelling_of_the_rope_type() -> None:
    rope = Config({"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4}}).rope
    assert (rope.kind, rope.number("factor")) == ("linear", 4.0)


def test_without_scaling_rope_is_default() -> None:
    assert Config({"rope_theta": 10000, "rope_scaling": None}).rope.kind == "default"


def test_what_is_left_out_comes_from_the_defaults() -> None:
    config = Config({"hidden_size": 64, "rms_norm_eps": None}, {"hidden_size": 4096, "vocab_size": 32000})
    assert (config.count("hidden_size"), config.count("vocab_size")) == (64, 32000)
    assert config.count("num_key_value_heads", 8) == 8


def test_a_whole_number_may_be_nothing_but_not_negative() -> None:
    config = Config({"first": 0, "second": 3, "third": None, "fourth": -1})
    assert [config.whole(name) for name in ("first", "second", "third", "left_out")] == [0, 3, 0, 0]
    with pytest.raises(BadCheckpoint, match="fourth is -1"):
        config.whole("fourth")


@pytest.mark.parametrize("value", [None, 0, -1, 1.5, "64", True])
def test_a_count_must_be_a_positive_whole_number(value: object) -> None:
    with pytest.raises(BadCheckpoint, match="hidden_size"):
        Config({"hidden_size": value}).count("hidden_size")


@pytest.mark.parametrize("value", [None, "1e-5", float("nan"), False])
def test_a_number_must_be_finite(value: object) -> None:
    with pytest.raises(BadCheckpoint, match="rms_norm_eps"):
        Config({"rms_norm_eps": value}).number("rms_norm_eps")


def test_a_missing_rope_parameter_is_named() -> None:
    rope = Config({"rope_theta": 1e4, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}).rope
    with pytest.raises(BadCheckpoint, match="original_max_position_embeddings"):
        rope.number("original_max_position_embeddings")


@pytest.mark.parametrize("theta", [None, 0, -1.0, "1e4"])
def test_a_bad_rope_theta_is_named(theta: object) -> None:
    with pytest.raises(BadCheckpoint, match="rope_theta"):
        _ = Config({"rope_theta": theta}).rope


def test_rope_that_differs_between_layers_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="differ between layers"):
        _ = Config({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}, "rope_theta": 1e4}).rope


BY_LAYER = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
OLD_BY_LAYER = {
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}


@pytest.mark.parametrize("values", [{"rope_parameters": BY_LAYER}, OLD_BY_LAYER], ids=["new", "old"])
def test_layers_have_rotary_positions_of_their_own_in_both_dialects(values: dict[str, object]) -> None:
    config = Config(values)
    full, sliding = config.for_layers("full_attention").rope, config.for_layers("sliding_attention").rope
    assert (full.kind, full.theta, full.number("factor")) == ("linear", 1e6, 8.0)
    assert (sliding.kind, sliding.theta) == ("default", 1e4)


def test_all_layers_share_rotary_positions_where_nothing_else_is_said() -> None:
    config = Config({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}})
    assert config.for_layers("sliding_attention").rope == config.for_layers("full_attention").rope == config.rope


def test_what_the_parameters_of_a_layer_leave_out_comes_from_the_defaults() -> None:
    config = Config({"rope_parameters": {"full_attention": {"rope_type": "default"}, "sliding_attention": None}})
    config = config.completed({"rope_theta": 1e6, "rope_local_base_freq": 1e4}, {})
    assert config.for_layers("full_attention").rope.theta == 1e6
    assert config.for_layers("sliding_attention").rope.theta == 1e4


def test_rotary_positions_of_a_layer_that_are_no_object_are_named() -> None:
    config = Config({"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": 1e4}})
    with pytest.raises(BadCheckpoint, match=r"sliding_attention are 10000\.0"):
        config.for_layers("sliding_attention")


def test_a_model_that_also_sees_is_read_as_its_language_model() -> None:
    config = Config(
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "eos_token_id": [1, 106],
            "torch_dtype": "bfloat16",
            "tie_word_embeddings": None,
            "vision_config": {"hidden_size": 1152},
            "text_config": {
                "architectures": ["Gemma3ForCausalLM"],
                "model_type": "gemma3_text",
                "hidden_size": 2560,
                "sliding_window": None,
                "eos_token_id": 1,
                "torch_dtype": None,
                "tie_word_embeddings": True,
            },
        },
        {"sliding_window": 4096, "vocab_size": 262208},
    )
    assert config.architecture == "Gemma3ForConditionalGeneration"
    assert (config.count("hidden_size"), config.count("vocab_size")) == (2560, 262208)
    assert (config.get("model_type"), config.get("torch_dtype")) == ("gemma3", "bfloat16")
    assert config.get("eos_token_id") == [1, 106]
    assert config.flag("tie_word_embeddings")
    assert config.get("sliding_window") is None, "null in the language model is a value of its own"
