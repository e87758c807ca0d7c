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


def test_a_missing_architecture_names_the_known() -> None:
    with pytest.raises(UnsupportedModel, match=r"is missing.*\nKnown: .*LlamaForCausalLM.*MistralForCausalLM"):
        architectures.find(Config({}))


def test_it_says_what_the_installed_llama_cpp_could_run() -> None:
    with pytest.raises(UnsupportedModel, match=r"could run it as 'rwkv7': a GGUF made elsewhere"):
        architectures.find(Config({"architectures": ["RWKV7ForCausalLM"], "model_type": "rwkv7"}))
    with pytest.raises(UnsupportedModel, match=r"no architecture of that name; it has .*rwkv7"):
        architectures.find(Config({"architectures": ["Rwkv9ForCausalLM"], "model_type": "rwkv9"}))
    with pytest.raises(UnsupportedModel, match=r"has no architecture of that name\.$"):
        architectures.find(Config({"architectures": ["QqqForCausalLM"], "model_type": "qqq"}))


@pytest.mark.parametrize(("name", "runs"), [("llama", True), ("t5", True), ("no-such-graph", False)])
def test_llama_cpp_is_asked(name: str, runs: bool) -> None:
    assert architectures.runs(name) == runs
