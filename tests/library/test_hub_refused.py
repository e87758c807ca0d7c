"""Repos that are not there, not for everybody, or nothing to convert: what is said, and what to do next."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import localllm
from localllm import library
from localllm.convert import convert, preview
from localllm.errors import BadCheckpoint, DownloadFailed, ModelNotFound
from localllm.library import hub as hub_module
from tests.library.hub_server import HubServer
from tests.library.repos import open_repo, read, same_weights


def test_a_hub_that_refuses_is_quoted(hub: HubServer, tiny: Path) -> None:
    hub.add("org/tiny", tiny)
    hub.faults.statuses = [400] * 5
    with pytest.raises(DownloadFailed, match="The hub refuses org/tiny with status 400"):
        open_repo()


@pytest.mark.parametrize("token", ["", "hf_wrong"])
def test_a_gated_repo_says_how_to_get_access(
    hub: HubServer, tiny: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/tiny", tiny, gate="gated")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DownloadFailed, match=r"Access to org/tiny.* is restricted.*\nAccept its terms") as raised:
        preview(open_repo())
    assert ("HF_TOKEN" in raised.value.hint) == (not token)


def test_the_token_opens_a_private_repo_and_stays_with_the_hub(
    hub: HubServer, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/tiny", tiny, gate="private")
    with pytest.raises(ModelNotFound, match="If it is private: Log in"):
        open_repo()
    monkeypatch.setenv("HF_TOKEN", hub.token)
    files = open_repo()
    assert read(files, "model-00001-of-00003.safetensors") == (tiny / "model-00001-of-00003.safetensors").read_bytes()
    files.close()


@pytest.mark.slow
@pytest.mark.parametrize("keep", [False, True])
def test_a_repo_that_was_renamed_is_found(
    hub: HubServer, tiny: Path, tmp_path: Path, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.add("organisation/new", tiny, gate="private")
    hub.moved["org/old"] = "organisation/new"
    result = localllm.convert_model("org/old", tmp_path / "a.gguf", keep_download=keep)
    assert same_weights(result.outfile, convert(tiny, tmp_path / "b.gguf").outfile)


def test_no_such_repo_names_the_nearest(hub: HubServer, tiny: Path) -> None:
    hub.add("organisation/tiny", tiny)
    with pytest.raises(
        ModelNotFound,
        match=r"There is no folder organization/tiny, and no model of that name on the hub.*\n.*organisation/tiny",
    ):
        open_repo("organization/tiny")


def test_a_revision_is_read_by_its_name_or_refused(hub: HubServer, tiny: Path) -> None:
    repo = hub.add("org/tiny", tiny, refs=("main", "v2"))
    files = open_repo("org/tiny@v2")
    assert files.origin.commit == repo.commit
    files.close()
    with pytest.raises(ModelNotFound, match=r"org/tiny has no revision 'v3'.\nIt has: main, v2\."):
        open_repo("org/tiny@v3")


def test_a_repo_of_ggufs_is_not_converted(hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "ggufs"
    folder.mkdir()
    (folder / "model-Q8_0.gguf").write_bytes(b"GGUF")
    hub.add("org/ggufs", folder)
    with pytest.raises(BadCheckpoint, match=r"holds GGUF files.*\n.*localllm pull org/ggufs/model-Q8_0.gguf"):
        open_repo("org/ggufs")


def test_a_repo_without_weights_says_what_it_has(hub: HubServer, tiny: Path) -> None:
    for path in tiny.glob("model*"):
        path.unlink()
    (tiny / "weights.bin").write_bytes(b"x")
    hub.add("org/tiny", tiny)
    with pytest.raises(BadCheckpoint, match=r"holds no weights: no model.safetensors.*\n.*\.bin"):
        open_repo()


def test_the_extra_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("localllm.library.hub")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(library, "hub", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(localllm.MissingPackage, match=r"pip install 'localllm\[hub\]'"):
        library.open_source("org/tiny")
    assert hub_module is not None
