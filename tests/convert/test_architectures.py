"""Which family converts a checkpoint, and what is said of one that none does."""

from __future__ import annotations

import pytest

from localllm.convert import architectures
from localllm.convert.config import Config
from localllm.errors import UnsupportedModel


def test_a_known_architecture_has_a_family() -> None:
    assert architectures.find(Config({"architectures": ["Qwen2ForCausalLM"]})).arch == "qwen2"


def test_an_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(UnsupportedModel, match=r"'LlamaForCausalML'.*\nNearest known: LlamaForCausalLM"):
        architectures.find(Config({"architectures": ["LlamaForCausalML"], "model_type": "llamas"}))


@pytest.mark.slow
def test_what_a_model_is_for_makes_no_name_nearer() -> None:
    with pytest.raises(UnsupportedModel, match=r"Nearest known: LlamaForCausalLM") as caught:
        architectures.find(Config({"architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4"}))
    assert "Gemma" not in str(caught.value)
    with pytest.raises(UnsupportedModel, match=r"None that is known is near: .*llama, .*qwen2"):
        architectures.find(Config({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}))


def test_a_missing_architecture_names_the_known() -> None:
    with pytest.raises(UnsupportedModel, match=r"is missing.*\nKnown: .*LlamaForCausalLM.*MistralForCausalLM"):
        architectures.find(Config({}))


@pytest.mark.slow
def test_it_says_what_the_installed_llama_cpp_could_run() -> None:
    with pytest.raises(UnsupportedModel, match=r"could run it as 'rwkv7': a GGUF made elsewhere"):
        architectures.find(Config({"architectures": ["RWKV7ForCausalLM"], "model_type": "rwkv7"}))
    # Newer than the names that the package `gguf` lists.
    with pytest.raises(UnsupportedModel, match=r"could run it as 'deepseek32'"):
        architectures.find(Config({"architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32"}))
    with pytest.raises(UnsupportedModel, match=r"no architecture of that name; it has .*rwkv7"):
        architectures.find(Config({"architectures": ["Rwkv9ForCausalLM"], "model_type": "rwkv9"}))
    with pytest.raises(UnsupportedModel, match=r"has no architecture of that name\.$"):
        architectures.find(Config({"architectures": ["QqqForCausalLM"], "model_type": "qqq"}))


@pytest.mark.parametrize(("name", "runs"), [("llama", True), ("t5", True), ("no-such-graph", False)])
def test_llama_cpp_is_asked(name: str, runs: bool) -> None:
    assert architectures.runs(name) == runs
