"""What another store on this machine has already is used, not downloaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from huggingface_hub.utils import WeakFileLock

from localllm.errors import BadOutput, Cancelled
from localllm.library import pulling
from tests.library.hub_server import HubServer
from tests.library.pulls import interrupt, model, pull, put_models, unfinished
from tests.library.stores import put, put_ollama


@pytest.fixture
def stores(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with no stores yet, and a repo on the hub."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    hub.add("org/m-GGUF", put_models(tmp_path / "repo", "m-Q4_K_M.gguf"))
    return tmp_path


def test_a_blob_of_ollama_is_used(hub: HubServer, stores: Path) -> None:
    blob = put_ollama(stores / "ollama", "m:latest", model())
    said: list[str] = []
    pulled = pull("org/m-GGUF", said=said)
    assert (pulled.received, hub.sent) == (0, 0)
    assert said == [f"m-Q4_K_M.gguf is on this machine already, as {blob}: it is used and not downloaded"]
    assert pulled.path.samefile(blob)
    blob.unlink()
    assert pulled.path.read_bytes() == model()


def test_a_file_of_lm_studio_is_used_when_its_content_is_the_same(hub: HubServer, stores: Path) -> None:
    theirs = put(stores / ".lmstudio/models/org/m-GGUF/m-Q4_K_M.gguf", model(seed=1))
    assert pull("org/m-GGUF").path.read_bytes() == model()
    assert hub.sent == len(model())
    assert theirs.read_bytes() == model(seed=1)
    hub.add("org/n-GGUF", put_models(stores / "other", "x.gguf", "m-Q4_K_M.gguf"))
    pulled = pull("org/n-GGUF/m-Q4_K_M.gguf")
    assert pulled.path.samefile(theirs)
    assert hub.sent == len(model())


def test_a_cache_that_cannot_be_written_is_told(stores: Path) -> None:
    put_ollama(stores / "ollama", "m:latest", model())
    folder = stores / "cache" / "models--org--m-GGUF"
    folder.mkdir(parents=True)
    (folder / "blobs").write_text("in the way")
    with pytest.raises(BadOutput, match=r"blobs.* cannot be written"):
        pull("org/m-GGUF")


def test_a_copy_is_not_put_where_another_process_is_downloading(hub: HubServer, stores: Path) -> None:
    def stop(done: int, total: int) -> None:
        if any("another process is downloading m-Q4_K_M.gguf" in text for text in said):
            raise Cancelled("stopped")

    put_ollama(stores / "ollama", "m:latest", model())
    said: list[str] = []
    digest = hashlib.sha256(model()).hexdigest()
    lock = stores / "cache" / ".locks" / "models--org--m-GGUF" / f"{digest}.lock"
    lock.parent.mkdir(parents=True)
    found = pulling.look_up("org/m-GGUF", remark=said.append)
    with WeakFileLock(lock), pytest.raises(Cancelled):
        found.fetch(stop)
    assert not (stores / "cache" / "models--org--m-GGUF" / "blobs").exists()


def test_what_had_arrived_of_it_goes(hub: HubServer, stores: Path) -> None:
    interrupt("org/m-GGUF", 1)
    put_ollama(stores / "ollama", "m:latest", model())
    pull("org/m-GGUF")
    assert unfinished(stores) == []


def test_a_store_on_another_disk_is_linked_to(hub: HubServer, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    blob = put_ollama(stores / "ollama", "m:latest", model())
    pulled = pull("org/m-GGUF")
    assert pulled.path.resolve() == blob.resolve()
    blob.unlink()
    again = pull("org/m-GGUF")
    assert (again.path.read_bytes(), again.received) == (model(), len(model()))


def test_a_file_with_the_name_size_and_ends_of_a_web_file_is_used(hub: HubServer, stores: Path) -> None:
    theirs = put(stores / ".lmstudio/models/org/x/w.gguf", model(300_000))
    hub.files["w.gguf"] = put(stores / "served" / "w.gguf", model(300_000))
    assert pull(f"{hub.web}/w.gguf").path == theirs
    assert hub.sent < 200_000
    hub.files["w.gguf"].write_bytes(model(300_000, seed=1))
    pulled = pull(f"{hub.web}/w.gguf")
    assert pulled.path.read_bytes() == model(300_000, seed=1)
    assert theirs.read_bytes() == model(300_000)
