"""Settings of one chat, by name and value."""

from __future__ import annotations

from dataclasses import replace

import pytest

from localllm.chat.settings import (
    changed,
    described,
    engine_of,
    max_tokens_of,
    options_of,
    sampling_of,
    stop_texts,
    stop_written,
)
from localllm.errors import BadSettings
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling


def test_a_setting_is_changed_and_taken_back() -> None:
    settings = changed({"model": "m"}, "temperature 0.2")
    settings = changed(settings, "top-k=20")
    settings = changed(settings, "stop END OF TEXT")
    assert settings == {"model": "m", "sampling": {"temperature": 0.2, "top_k": 20, "stop": ["END OF TEXT"]}}
    found = sampling_of(settings, Sampling(temperature=0.9, min_p=0.1))
    assert (found.temperature, found.top_k, found.min_p, found.stop) == (0.2, 20, 0.1, ("END OF TEXT",))
    assert described(found, 0).splitlines() == [
        "temperature = 0.2",
        "top_k = 20",
        "min_p = 0.1",
        'stop = ["END OF TEXT"]',
    ]
    settings = changed(settings, "stop -")
    assert "stop" not in settings["sampling"]
    assert changed(settings, "-") == {"model": "m"}
    assert described(Sampling(), 0) == ""


def test_the_most_tokens_of_a_reply_are_a_setting_as_the_others() -> None:
    settings = changed({"sampling": {"top_k": 5}}, "max-tokens 300")
    assert settings == {"sampling": {"top_k": 5, "max_tokens": 300}}
    assert (max_tokens_of(settings, 20), max_tokens_of({}, 20)) == (300, 20)
    assert sampling_of(settings, Sampling()).top_k == 5
    assert described(sampling_of(settings, Sampling()), 300).splitlines() == ["top_k = 5", "max_tokens = 300"]
    assert max_tokens_of(changed(settings, "max-tokens 0"), 20) == 0
    assert changed(settings, "max-tokens -") == {"sampling": {"top_k": 5}}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("END OF TEXT", ["END OF TEXT"]),
        ("7", ["7"]),
        ("true", ["true"]),
        ('["###", "User:"]', ["###", "User:"]),
        ('["\\n"]', ["\n"]),
        ('[" a"]', [" a"]),
        ('["[]"]', ["[]"]),
    ],
)
def test_stop_texts_are_written_as_they_stand_where_they_can_be(written: str, meant: list[str]) -> None:
    assert stop_texts(written) == meant
    assert stop_written(meant) == written


def test_a_stop_text_may_be_quoted() -> None:
    assert stop_texts('"###"') == ["###"]


@pytest.mark.parametrize(
    ("order", "message", "hint"),
    [
        ("temprature 1", "no setting 'temprature'", "temperature"),
        ("qqqq 1", "no setting 'qqqq'", "min_p"),
        ("temperature", "to what", "/set temperature VALUE"),
        ("temperature warm", "is a number, not 'warm'", "default"),
        ("temperature true", "is a number", "default"),
        ("top_p 2", "not between 0 and 1", "takes one back"),
        ("top_k [1]", "is wrong", "takes one back"),
        ("seed -5", "not between", "takes one back"),
        ("max-tokens -5", "most tokens of a reply are a whole number", "takes one back"),
        ("max-tokens 1.5", "most tokens of a reply", "takes one back"),
        ("max-tokens 9999999999", "most tokens of a reply", "takes one back"),
        ("max-tokens many", "is a number", "default"),
        ("stop []", "several as", "default"),
        ('stop [""]', "several as", "default"),
        ("stop [1]", "several as", "default"),
    ],
)
def test_a_wrong_one_says_what_would_be_right(order: str, message: str, hint: str) -> None:
    before = {"sampling": {"min_p": 0.1}}
    with pytest.raises(BadSettings, match=message) as caught:
        changed(before, order)
    assert hint in caught.value.hint
    assert before == {"sampling": {"min_p": 0.1}}


@pytest.mark.parametrize("values", [[1], {"temprature": 1}, {"temperature": "warm"}])
def test_settings_that_somebody_else_wrote_are_checked(values: object) -> None:
    with pytest.raises(BadSettings):
        sampling_of({"sampling": values}, Sampling())


@pytest.mark.parametrize("value", [-1, 1.5, True, "many", None, 2**31])
def test_a_limit_that_somebody_else_wrote_is_checked(value: object) -> None:
    with pytest.raises(BadSettings, match="most tokens of a reply"):
        max_tokens_of({"sampling": {"max_tokens": value}}, 0)


def test_how_a_model_is_loaded_is_kept_as_json_can_say_it_and_read_back() -> None:
    options = Options(n_ctx=4096, kv_type="q8_0", gpu_layers=0, flash_attention=True)
    kept = engine_of(options)
    assert kept == {"n_ctx": 4096, "kv_type": "q8_0", "gpu_layers": 0, "flash_attention": "on"}
    assert options_of({"engine": kept}, Options(threads=3)) == replace(options, threads=3)
    assert engine_of(Options()) == {}
    assert engine_of(options, ["n_ctx"]) == {"n_ctx": 4096}
    assert options_of({}, options) == options


@pytest.mark.parametrize(
    "engine",
    [
        {"n_ctx": "8"},
        {"n_ctx": True},
        {"n_ctx": -1},
        {"kv_type": "q9"},
        {"kv_type": 1},
        {"mmap": False},
        {"flash_attention": "perhaps"},
        {"flash_attention": "off", "kv_type": "q8_0"},
        {"threads": None},
        7,
    ],
)
def test_how_no_model_can_be_loaded_is_refused(engine: object) -> None:
    with pytest.raises(BadSettings) as caught:
        options_of({"engine": engine}, Options())
    assert "F7" in caught.value.hint
