"""The hub's cache on this machine: used, filled when asked, and all there is when offline."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download

import localllm
from localllm.convert import convert
from localllm.convert.files import LocalFiles
from localllm.errors import BadOutput, DownloadFailed
from tests.library.hub_server import HubServer
from tests.library.repos import open_repo, same_weights


def test_half_a_model_in_the_cache_is_not_enough(hub: HubServer, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/tiny", tiny)
    hf_hub_download("org/tiny", "config.json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match="not in the hub's cache on this machine with its weights"):
        open_repo()


@pytest.mark.slow
def test_no_network_is_said_and_the_cache_is_enough(
    hub: HubServer, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/tiny", tiny)
    localllm.convert_model("org/tiny", tmp_path / "a.gguf", keep_download=True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    files = open_repo()
    assert isinstance(files, LocalFiles)
    assert "hub's cache" in files.remarks()[0]
    assert same_weights(convert(files, tmp_path / "b.gguf").outfile, tmp_path / "a.gguf")
    with pytest.raises(DownloadFailed, match="cannot be reached"):
        open_repo("org/other")


@pytest.mark.slow
def test_offline_the_cache_is_all_there_is(
    hub: HubServer, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/tiny", tiny)
    localllm.convert_model("org/tiny", tmp_path / "a.gguf", keep_download=True)
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    files = open_repo()
    assert same_weights(convert(files, tmp_path / "b.gguf").outfile, tmp_path / "a.gguf")
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE forbids to ask"):
        open_repo("org/other")
    assert hub.requests == []


@pytest.mark.slow
def test_a_kept_download_is_where_others_find_it(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    hub.add("org/tiny", tiny)
    localllm.convert_model("org/tiny", tmp_path / "a.gguf", keep_download=True)
    for path in tiny.iterdir():
        found = Path(hf_hub_download("org/tiny", path.name, local_files_only=True))
        assert found.read_bytes() == path.read_bytes()
    hub.sent = 0
    again = localllm.convert_model("org/tiny", tmp_path / "b.gguf")
    assert hub.sent == 0
    assert any("hub's cache" in note for note in again.preview.notes)


@pytest.mark.slow
def test_what_is_cached_in_part_is_read_there(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    hub.add("org/tiny", tiny)
    hf_hub_download("org/tiny", "config.json")
    hf_hub_download("org/tiny", "model-00002-of-00003.safetensors")
    hub.requests.clear()
    result = localllm.convert_model("org/tiny", tmp_path / "a.gguf")
    assert hub.asked("model-00001") != []
    assert hub.asked("model-00002") == hub.asked("/config.json") == []
    assert same_weights(result.outfile, convert(tiny, tmp_path / "b.gguf").outfile)


def test_a_download_that_would_fill_the_disk_is_refused_first(
    hub: HubServer, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/tiny", tiny)
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: full if "out" not in str(path) else full._replace(free=10**9)
    )
    (tmp_path / "out").mkdir()
    with pytest.raises(BadOutput, match=r"download of org/tiny needs .* too few"):
        localllm.convert_model("org/tiny", tmp_path / "out" / "a.gguf", keep_download=True)
    assert not (tmp_path / "cache").exists()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_kept_file_with_another_hash_is_removed(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    hub.add("org/tiny", tiny)
    hub.faults.sha256 = "0" * 64
    with pytest.raises(DownloadFailed, match="not what the hub says it is"):
        localllm.convert_model("org/tiny", tmp_path / "a.gguf", keep_download=True)
    assert list((tmp_path / "cache").rglob("*.safetensors")) == []
    assert not (tmp_path / "a.gguf").exists()
