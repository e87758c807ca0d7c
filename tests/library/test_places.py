"""Every place that holds models, by the layout of the program that made it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from localllm.library import places
from localllm.library.stored import Stored
from tests.library.stores import COMMIT, gguf, ollama_layer, put, put_hub, put_ollama

NOBODY = 65534
"""A user who owns nothing, for root may look into everything."""


def only() -> Stored:
    (found,) = places.stored_models()
    return found


def test_no_place_need_exist(machine: Path) -> None:
    assert list(places.stored_models()) == []
    assert list(places.files_with_sha256("0" * 64)) == []


def test_a_model_in_parts_is_one_and_knows_what_is_missing(machine: Path) -> None:
    names = [f"big-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    files = [put(machine / "models" / "deep" / name) for name in names]
    found = only()
    assert (found.kind, found.path, found.parts, found.whole) == ("folder", files[0], tuple(files), True)
    assert found.size == sum(file.stat().st_size for file in files)
    assert found.quantization == "Q8_0"
    files[1].unlink()
    assert not only().whole
    files[0].unlink()
    assert list(places.stored_models()) == []


def test_what_is_hidden_unfinished_or_no_model_is_not_there(machine: Path) -> None:
    folder = machine / "models"
    for name in (
        ".hidden.gguf",
        ".tmp/a.gguf",
        "b.gguf.part",
        "c.gguf.incomplete",
        "mmproj-d.gguf",
        "x-mmproj-f16.gguf",
    ):
        put(folder / name)
    put(folder / "imatrix.gguf")
    (folder / "gone.gguf").symlink_to(machine / "nowhere.gguf")
    (folder / "round").symlink_to(folder)
    whole = put(folder / "model.gguf")
    assert only().path == whole


def test_the_package_of_a_catalogue_model(smollm2: Path) -> None:
    found = next(model for model in places.stored_models() if model.kind == "package")
    assert (found.path, found.quantization, found.folder) == (smollm2, "Q4_1", smollm2.parent)


def test_ollama(machine: Path) -> None:
    store = machine / ".ollama" / "models"
    content = gguf("llama")
    blob = put_ollama(store, "llama3.2:1b", content, template=b"{{ .Prompt }}", params=b"{}", projector=gguf("eyes"))
    found = only()
    assert (found.kind, found.name, found.path) == ("ollama", "llama3.2:1b", blob)
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.remark == ""
    assert list(places.files_with_sha256(found.sha256)) == [blob]


def test_ollama_names_as_ollama_shows_them(machine: Path) -> None:
    store = machine / ".ollama" / "models"
    put_ollama(store, "registry.ollama.ai/someone/mine:latest", gguf("a"))
    put_ollama(store, "hf.co/org/repo-GGUF:Q4_K_M", gguf("b"))
    put_ollama(store, "ollama.com/library/new:7b", gguf("c"), tree="manifests-v2")
    put_ollama(store, "registry.ollama.ai/library/new:7b", gguf("old"))
    found = {model.name: model for model in places.stored_models()}
    assert set(found) == {"someone/mine:latest", "hf.co/org/repo-GGUF:Q4_K_M", "new:7b"}
    assert found["new:7b"].path.read_bytes() == gguf("c")


def test_ollama_moved_by_its_variable(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(machine / "elsewhere"))
    put_ollama(machine / "elsewhere", "a:1b", gguf())
    put_ollama(machine / ".ollama" / "models", "b:1b", gguf())
    assert only().name == "a:1b"
    monkeypatch.setenv("OLLAMA_MODELS", "~nobody-of-this-name")
    assert list(places.stored_models()) == []


def test_an_adapter_in_ollama_is_told(machine: Path) -> None:
    put_ollama(machine / ".ollama" / "models", "tuned:1b", gguf(), adapter=gguf("lora"))
    assert "LoRA adapter" in only().remark


def test_of_a_manifest_for_several_runners_that_of_llama_cpp_counts(machine: Path) -> None:
    store = machine / ".ollama" / "models"
    content = gguf("chosen")
    children = [
        {"runner": "mlx", "layers": [ollama_layer(store, "application/vnd.ollama.image.tensor", b"x")]},
        {"runner": "llamacpp", "layers": [ollama_layer(store, "application/vnd.ollama.image.model", content)]},
    ]
    manifest = json.dumps({"mediaType": "application/vnd.ollama.manifest.list.v2+json", "manifests": children})
    put(store / "manifests-v2" / "ollama.com" / "library" / "both" / "latest", manifest.encode())
    assert only().path.read_bytes() == content


def test_what_ollama_is_still_writing_is_not_there(machine: Path) -> None:
    store = machine / ".ollama" / "models"
    half = put_ollama(store, "half:1b", gguf("half"))
    half.rename(half.with_name(half.name + "-partial"))
    put_ollama(store, "cut:1b", gguf("cut")).write_bytes(b"GGUF")
    manifests = store / "manifests" / "registry.ollama.ai" / "library"
    put(manifests / "torn" / "1b", b'{"layers": [{"mediaType": ')
    put(manifests / "strange" / "1b", b"[1]")
    put(manifests / "climbing" / "1b", json.dumps({"layers": [{"mediaType": "x", "digest": "../../x"}]}).encode())
    assert list(places.stored_models()) == []


def test_the_hub_cache(machine: Path) -> None:
    content = gguf("hub")
    link = put_hub(machine / "hub", "org/model-GGUF", "model-Q4_K_M.gguf", content)
    put(link.parents[2] / "blobs" / "abc.incomplete")
    found = only()
    assert (found.kind, found.repo, found.file, found.path) == ("hub", "org/model-GGUF", "model-Q4_K_M.gguf", link)
    assert (found.quantization, found.sha256) == ("Q4_K_M", hashlib.sha256(content).hexdigest())
    assert [path.read_bytes() for path in places.files_with_sha256(found.sha256)] == [content]


def test_of_several_snapshots_the_one_that_main_names_counts(machine: Path) -> None:
    put_hub(machine / "hub", "org/m", "m.gguf", gguf("old"), commit="1" * 40, ref="")
    put_hub(machine / "hub", "org/m", "only-old.gguf", gguf("other"), commit="1" * 40, ref="")
    put_hub(machine / "hub", "org/m", "m.gguf", gguf("new"), commit=COMMIT)
    found = {model.file: model.path.read_bytes() for model in places.stored_models()}
    assert found == {"m.gguf": gguf("new"), "only-old.gguf": gguf("other")}


def test_a_split_model_in_a_folder_of_a_repo(machine: Path) -> None:
    for number in (1, 2):
        put_hub(machine / "hub", "org/m", f"Q8_0/m-Q8_0-0000{number}-of-00002.gguf", gguf(f"part {number}"))
    found = only()
    assert (found.file, len(found.parts), found.whole) == ("Q8_0/m-Q8_0-00001-of-00002.gguf", 2, True)


def test_lm_studio(machine: Path) -> None:
    folder = machine / ".lmstudio" / "models"
    file = put(folder / "publisher" / "repo-GGUF" / "model-Q4_K_M.gguf")
    put(file.with_name("mmproj-model-f16.gguf"))
    found = only()
    assert (found.kind, found.repo, found.file, found.path) == ("lmstudio", "publisher/repo-GGUF", file.name, file)


@pytest.mark.parametrize(
    "manifest",
    [
        {"layers": {"a": 1}},
        {"layers": [1, None, {"mediaType": "application/vnd.ollama.image.model", "digest": 5, "size": "x"}]},
        {"manifests": "many", "layers": None},
        {"manifests": [{"runner": ["ollama"], "digest": "sha256:" + "0" * 64}, {"runner": "ollama", "digest": {}}]},
    ],
)
def test_a_manifest_of_another_shape_holds_nothing(machine: Path, manifest: dict[str, object]) -> None:
    folder = machine / ".ollama" / "models" / "manifests" / "registry.ollama.ai" / "library" / "odd"
    put(folder / "1b", json.dumps(manifest).encode())
    put(machine / ".lmstudio" / "settings.json", b'{"downloadsFolder": ["x"]}')
    put(machine / ".lmstudio-home-pointer", b"relative/folder")
    assert list(places.stored_models()) == []


@pytest.mark.parametrize("how", ["older folder", "pointer", "setting"])
def test_lm_studio_elsewhere(machine: Path, how: str) -> None:
    home = machine / ".cache" / "lm-studio" if how == "older folder" else machine / "lm"
    models = home / "models"
    if how == "pointer":
        put(machine / ".lmstudio-home-pointer", f"{home}\n".encode())
    if how == "setting":
        models = machine / "disk"
        put(machine / ".lmstudio" / "settings.json", json.dumps({"downloadsFolder": str(models)}).encode())
    file = put(models / "a" / "b" / "c.gguf")
    assert (only().kind, only().path, only().repo) == ("lmstudio", file, "a/b")


def test_the_older_cache_of_llama_cpp(machine: Path) -> None:
    cache = machine / ".cache" / "llama.cpp"
    put(cache / "manifest=ggml-org=tiny_GGUF=latest.json", b"{}")
    put(cache / "ggml-org_tiny_GGUF_tiny-Q8_0.gguf.json", b"{}")
    put(cache / "ggml-org_tiny_GGUF_tiny-Q4_0.gguf.downloadInProgress")
    known = put(cache / "ggml-org_tiny_GGUF_tiny-Q8_0.gguf")
    unknown = put(cache / "by-url.gguf")
    found = {model.path: (model.kind, model.repo, model.file) for model in places.stored_models()}
    assert found[known] == ("llama.cpp", "ggml-org/tiny_GGUF", "tiny-Q8_0.gguf")
    assert found[unknown] == ("llama.cpp", "", "by-url.gguf")


def test_the_folder_that_llama_cpp_is_told_to_use(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CACHE", str(machine / "llama"))
    link = put_hub(machine / "llama", "org/m", "m-Q8_0.gguf", gguf())
    assert (only().kind, only().path, only().repo) == ("llama.cpp", link, "org/m")


def test_a_folder_that_is_part_of_two_places_counts_once(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studio = machine / ".lmstudio" / "models"
    put(studio / "a" / "b" / "c.gguf")
    (machine / "models").symlink_to(studio)
    put_hub(machine / "hub", "org/m", "m.gguf", gguf())
    monkeypatch.setenv("LLAMA_CACHE", str(machine / "hub"))
    assert [model.kind for model in places.stored_models()] == ["folder", "hub"]


def test_a_folder_that_may_not_be_read_is_as_good_as_none(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine / "models" / "closed.gguf")
    put_ollama(machine / ".ollama" / "models", "a:1b", gguf())
    real = Path.is_file

    def is_file(path: Path) -> bool:
        if path.name == "closed.gguf" or path.parent.name == "blobs":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    assert list(places.stored_models()) == []


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """A folder that nobody may look into, the user of this process included."""
    mode, user = folder.stat().st_mode, os.geteuid()
    folder.chmod(0)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)


def test_a_home_that_may_not_be_looked_into_is_as_good_as_none(machine: Path) -> None:
    for folder in ("models", ".lmstudio/models/org/repo", ".cache/llama.cpp"):
        put(machine / folder / "m.gguf")
    put_hub(machine / "hub", "org/m", "m.gguf", gguf())
    put_ollama(machine / ".ollama" / "models", "a:1b", gguf())
    with closed(machine):
        assert list(places.stored_models()) == []


def test_a_person_without_a_home_has_no_models_there(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine / "models" / "a.gguf")

    def expanduser(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", expanduser)
    assert only().path == machine / "models" / "a.gguf"


def test_files_by_name_and_size(machine: Path) -> None:
    file = put(machine / "models" / "model-Q4_K_M.gguf")
    size = file.stat().st_size
    assert list(places.files_named("folder/model-Q4_K_M.gguf", size)) == [file]
    assert list(places.files_named("model-Q4_K_M.gguf", size + 1)) == []
