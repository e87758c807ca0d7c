"""How to sample from a model whose file does not say it: what the catalogue knows of its makers' recommendation."""

from __future__ import annotations

from pathlib import Path

import pytest

import localllm
from localllm.library import as_recommended
from localllm.library.catalog import load_catalog
from localllm.runtime.options import Options

GREATER_CARE = (("temperature", 0.2), ("top_p", 0.9))


@pytest.mark.parametrize(
    "name",
    ["SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct-q6_k.gguf", "SmolLM2-135M-Instruct.gguf"],
)
def test_a_model_of_the_catalogue_is_known_in_any_quantization(name: str) -> None:
    assert as_recommended(Path("/models", name), Options()).recommended == GREATER_CARE


@pytest.mark.parametrize("name", ["SmolLM2-135M-Instructor.gguf", "SmolLM2.gguf", "other.gguf"])
def test_nothing_is_recommended_for_another_model(name: str) -> None:
    assert as_recommended(Path(name), Options()) == Options()


def test_what_a_program_recommends_goes_first() -> None:
    own = Options(recommended=(("top_k", 5),))
    assert as_recommended(Path("SmolLM2-135M-Instruct.Q4_1.gguf"), own) == own


def test_every_entry_is_found_by_its_own_files() -> None:
    for entry in load_catalog():
        for file in entry.files:
            found = as_recommended(Path(file.parts[0]), Options()).recommended
            assert dict(found) == dict(entry.sampling), file.file


@pytest.mark.slow
def test_the_default_model_is_sampled_as_recommended() -> None:
    with localllm.load(n_ctx=256) as model:
        assert (model.default_sampling.temperature, model.default_sampling.top_p) == (0.2, 0.9)
    with localllm.load_process(n_ctx=256) as remote:
        assert len(remote.chat(sampling=localllm.Sampling(seed=1), max_tokens=2).ask("Hello")) > 0
