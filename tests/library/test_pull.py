"""Models of the hub come into its cache: whole, once, and where other programs find them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download, scan_cache_dir
from huggingface_hub.utils import WeakFileLock

import localllm
from localllm import library, settings
from localllm.errors import BadModelFile, BadOutput, Cancelled, DownloadFailed, ModelNotFound
from localllm.library.catalog import load_catalog
from localllm.library.pulling import partial, transfer
from localllm.library.ranges import Fetcher, RemoteFile
from tests.library.hub_server import HubServer
from tests.library.pulls import interrupt, model, pull, put_models, unfinished


@pytest.fixture
def repo(hub: HubServer, tmp_path: Path, blocks: None) -> Path:
    """A repo with models of many blocks."""
    names = ("m-Q4_K_M.gguf", "m-Q8_0.gguf", "BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf")
    folder = put_models(tmp_path / "repo", *names, size=500_000)
    hub.add("org/m-GGUF", folder)
    return folder


def test_a_model_is_where_other_programs_find_it(hub: HubServer, repo: Path, tmp_path: Path) -> None:
    pulled = pull("org/m-GGUF")
    content = (repo / "m-Q4_K_M.gguf").read_bytes()
    assert pulled.path.read_bytes() == content
    assert pulled.received == len(content)
    assert list(pulled.sha256.values()) == [pulled.path.resolve().name]
    assert Path(hf_hub_download("org/m-GGUF", "m-Q4_K_M.gguf")) == pulled.path
    assert Path(hf_hub_download("org/m-GGUF", "m-Q4_K_M.gguf", local_files_only=True)) == pulled.path
    assert hub.sent == len(content)
    scanned = scan_cache_dir(tmp_path / "cache")
    assert (scanned.size_on_disk, scanned.warnings) == (len(content), [])
    assert unfinished(tmp_path) == []


def test_what_others_downloaded_is_not_fetched_again(hub: HubServer, repo: Path) -> None:
    theirs = hf_hub_download("org/m-GGUF", "m-Q8_0.gguf")
    sent = hub.sent
    pulled = pull("org/m-GGUF:Q8_0")
    assert (str(pulled.path), pulled.received, hub.sent) == (theirs, 0, sent)


def test_the_same_content_in_another_commit_is_not_fetched_again(hub: HubServer, repo: Path) -> None:
    first = pull("org/m-GGUF")
    (repo / "README.md").write_text("new")
    second = pull("org/m-GGUF")
    assert first.path.parent != second.path.parent
    assert (second.path.resolve(), second.received) == (first.path.resolve(), 0)


def test_a_split_model_comes_with_all_its_parts(hub: HubServer, repo: Path) -> None:
    done: list[tuple[int, int]] = []
    path = localllm.pull("org/m-GGUF:BF16", progress=lambda here, total: done.append((here, total)))
    assert path.name == "m-BF16-00001-of-00002.gguf"
    for part in sorted((repo / "BF16").iterdir()):
        assert (path.parent / part.name).read_bytes() == part.read_bytes()
    total = sum(part.stat().st_size for part in (repo / "BF16").iterdir())
    assert done[-1] == (total, total)
    assert [here for here, _ in done] == sorted(here for here, _ in done)


def test_several_connections_fetch_one_file(hub: HubServer, repo: Path) -> None:
    hub.faults.pause = 0.001
    pull("org/m-GGUF")
    starts = [int(asked.partition("=")[2].partition("-")[0]) for _, _, asked in hub.asked("signature=")]
    assert sorted(starts) == list(range(0, (repo / "m-Q4_K_M.gguf").stat().st_size, 30_000))


@pytest.mark.parametrize("after", [0, 1, 9_999, 10_000, 10_001, 29_999])
def test_cuts_anywhere_are_survived(hub: HubServer, repo: Path, after: int) -> None:
    hub.faults.cuts, hub.faults.cut_after = 4, after
    hub.faults.expired_links, hub.faults.statuses = 1, [200 + 303, 429]
    assert pull("org/m-GGUF").path.read_bytes() == (repo / "m-Q4_K_M.gguf").read_bytes()
    assert hub.faults.cuts == 0


def test_what_arrived_is_not_fetched_again(hub: HubServer, repo: Path, tmp_path: Path) -> None:
    size = (repo / "m-Q4_K_M.gguf").stat().st_size
    interrupt("org/m-GGUF", 100_000)
    assert len(unfinished(tmp_path)) == 2
    assert not list((tmp_path / "cache").rglob("*.gguf"))
    pulled = pull("org/m-GGUF")
    assert 0 < pulled.received <= size - 100_000
    assert pulled.path.read_bytes() == (repo / "m-Q4_K_M.gguf").read_bytes()
    assert unfinished(tmp_path) == []


def test_a_note_of_another_file_counts_for_nothing(hub: HubServer, repo: Path, tmp_path: Path) -> None:
    content = (repo / "m-Q4_K_M.gguf").read_bytes()
    pulled = pull("org/m-GGUF")
    blob = pulled.path.resolve()
    blob.unlink()
    half = partial.Partial(blob, len(content), "another version")
    half.write(0, memoryview(bytes(10_000)))
    half.note(0)
    half.close()
    assert pull("org/m-GGUF").path.read_bytes() == content


def test_a_wrong_hash_leaves_nothing(hub: HubServer, repo: Path, tmp_path: Path) -> None:
    hub.faults.sha256 = "0" * 64
    with pytest.raises(DownloadFailed, match=r"not what it should be: its hash is \w{64}, not 0{64}\. It was removed"):
        pull("org/m-GGUF")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    hub.faults.sha256 = ""
    pull("org/m-GGUF")


def test_what_was_damaged_on_the_disk_is_found(hub: HubServer, repo: Path, tmp_path: Path) -> None:
    interrupt("org/m-GGUF", 100_000)
    part = next(path for path in unfinished(tmp_path) if path.suffix == ".download")
    with part.open("r+b") as file:
        file.seek(5000)
        file.write(b"x")
    with pytest.raises(DownloadFailed, match="It was removed"):
        pull("org/m-GGUF")
    assert pull("org/m-GGUF").path.read_bytes() == (repo / "m-Q4_K_M.gguf").read_bytes()


def test_a_file_in_the_repo_itself_is_checked_by_its_git_hash(hub: HubServer, tmp_path: Path) -> None:
    hub.add("org/plain", put_models(tmp_path / "plain", "m.gguf")).plain = True
    pulled = pull("org/plain")
    assert len(pulled.path.resolve().name) == 40
    assert pulled.path.read_bytes() == model()


def test_what_is_no_gguf_is_removed_at_once(hub: HubServer, repo: Path, tmp_path: Path) -> None:
    (repo / "m-Q4_K_M.gguf").write_bytes(b"<html>" + bytes(500_000))
    with pytest.raises(BadModelFile, match=r"m-Q4_K_M.gguf is not a GGUF file: it begins with b'<htm'"):
        pull("org/m-GGUF")
    assert unfinished(tmp_path) == []
    (repo / "m-Q4_K_M.gguf").write_bytes(model(500_000)[:-5000])
    with pytest.raises(BadModelFile, match=r"^m-Q4_K_M.gguf .*It was removed"):
        pull("org/m-GGUF")
    assert unfinished(tmp_path) == list((tmp_path / "cache").rglob("*.gguf")) == []


def test_a_server_without_ranges_gives_the_file_as_a_whole(hub: HubServer, repo: Path) -> None:
    hub.faults.ignore_ranges = True
    hub.faults.cuts, hub.faults.cut_after = 1, 100_000
    assert pull("org/m-GGUF").path.read_bytes() == (repo / "m-Q4_K_M.gguf").read_bytes()


def test_a_full_disk_is_said_first_and_what_is_there_counts(
    hub: HubServer, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (repo / "m-Q4_K_M.gguf").stat().st_size
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size - 1))
    with pytest.raises(BadOutput, match=rf"needs {size:,} bytes, .* has {size - 1:,} left: 1 too few") as raised:
        pull("org/m-GGUF")
    assert "HF_HOME" in raised.value.hint
    assert hub.sent == 0
    assert not (tmp_path / "cache").exists()
    monkeypatch.undo()


def test_offline_the_cache_is_all_there_is(hub: HubServer, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pull("org/m-GGUF").path
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said: list[str] = []
    assert pull("org/m-GGUF", said=said).path == path
    assert said == ["HF_HUB_OFFLINE forbids to ask the hub: there may be a newer one"]
    with pytest.raises(DownloadFailed, match=r"as it is asked for, and HF_HUB_OFFLINE .*\nChoose one:\n .*Q4_K_M"):
        pull("org/m-GGUF:Q8_0")
    with pytest.raises(DownloadFailed, match=r"not in the hub's cache on this machine, and HF_HUB_OFFLINE"):
        pull("org/other")
    assert hub.requests == []


def test_no_network_is_said_and_the_cache_is_enough(
    hub: HubServer, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pull("org/m-GGUF").path
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert pull("org/m-GGUF").path == path
    with pytest.raises(DownloadFailed, match=r"the hub \(http://127.0.0.1:9\) cannot be reached"):
        pull("org/other")


@pytest.mark.parametrize(("gate", "token"), [("gated", ""), ("closed", "hf_test")])
def test_a_gated_repo_says_where_to_ask(
    hub: HubServer, repo: Path, gate: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos["org/m-GGUF"].gate = gate
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DownloadFailed, match=r"Access to org/m-GGUF.* is restricted") as raised:
        pull("org/m-GGUF")
    assert f"{hub.url}/org/m-GGUF" in raised.value.hint
    assert ("hf auth login" in raised.value.hint) == (not token)


def test_the_token_opens_a_private_repo_and_stays_with_the_hub(
    hub: HubServer, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos["org/m-GGUF"].gate = "private"
    with pytest.raises(ModelNotFound, match=r"If it is private: Log in with `hf auth login`, or set HF_TOKEN"):
        pull("org/m-GGUF")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    pull("org/m-GGUF")  # the store refuses whoever brings a token


def test_a_wrong_name_suggests_the_nearest(hub: HubServer, repo: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model of that name on the hub.*\n.*org/m-GGUF"):
        pull("orgg/m-GGUF")
    with pytest.raises(ModelNotFound, match=r"nearest names:\n  smollm2:135m"):
        pull("smollm:135m")


@pytest.mark.parametrize("evil", ["../x.gguf", "a/../../../x.gguf"])
def test_a_file_that_climbs_out_is_refused(hub: HubServer, tmp_path: Path, evil: str) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    hub.add("org/evil", folder).listed = (evil,)
    with pytest.raises(DownloadFailed, match="leads out of its folder"):
        pull("org/evil")
    assert not (tmp_path / "cache").exists()


def test_a_model_of_the_catalogue_that_is_here_is_not_fetched(hub: HubServer, smollm2: Path) -> None:
    assert pull("smollm2:135m").path == smollm2
    assert hub.requests == []


def test_a_model_of_the_catalogue_comes_from_its_repo(hub: HubServer, tmp_path: Path) -> None:
    entry = next(entry for entry in load_catalog() if len(entry.files) > 1 and len(entry.files[1].parts) == 1)
    others = [file.file for file in entry.files[:2]]
    hub.add(entry.repo, put_models(tmp_path / "repo", *others, "x-Q1_0.gguf"))
    assert pull(entry.name).path.name == Path(others[0]).name
    assert pull(f"{entry.name}:{entry.files[1].quantization.lower()}").path.name == Path(others[1]).name
    assert pull(f"{entry.name}:q1_0").path.name == "x-Q1_0.gguf"
    assert library.resolve(entry.name).name == Path(others[0]).name
    with pytest.raises(ModelNotFound, match=r"has no model in Q9.\nChoose one"):
        pull(f"{entry.name}:Q9")


def test_a_model_of_the_catalogue_that_is_cut_short_is_fetched(hub: HubServer, tmp_path: Path) -> None:
    entry = next(entry for entry in load_catalog() if entry.files[0].size and len(entry.files[0].parts) == 1)
    name = Path(entry.files[0].file).name
    short = put_models(settings.models_dirs()[0], name) / name
    hub.add(entry.repo, put_models(tmp_path / "repo", entry.files[0].file, size=200_000))
    said: list[str] = []
    file = f"{entry.name}:{entry.files[0].quantization}"
    assert pull(file, said=said).path.read_bytes() == (tmp_path / "repo" / entry.files[0].file).read_bytes()
    size = short.stat().st_size
    assert said == [f"{short} has {size:,} bytes, not {entry.files[0].size:,} as the catalogue says: it is left"]
    assert pull(file).received == 0


@pytest.mark.parametrize("folder", ["blobs", "snapshots", "refs"])
def test_a_file_where_a_folder_of_the_cache_should_be_is_told(
    hub: HubServer, repo: Path, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "cache" / "models--org--m-GGUF").mkdir(parents=True)
    (tmp_path / "cache" / "models--org--m-GGUF" / folder).write_text("in the way")
    with pytest.raises(BadOutput, match=rf"{folder}.* cannot be written"):
        pull("org/m-GGUF")


def test_locks_that_cannot_be_made_are_told(hub: HubServer, repo: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ".locks").write_text("in the way")
    with pytest.raises(BadOutput, match=r"\.lock cannot be written"):
        pull("org/m-GGUF")


def test_who_waits_for_another_process_can_cancel(hub: HubServer, repo: Path, tmp_path: Path) -> None:
    def cancel(done: int, total: int) -> None:
        raise Cancelled(f"{done} of {total}")

    target, lock = tmp_path / "x.gguf", tmp_path / "x.lock"
    job = transfer.Job(RemoteFile("x.gguf", "", 1000, "v"), target, lock)
    with WeakFileLock(lock), pytest.raises(Cancelled, match="0 of 1000"):
        transfer.fetch([job], Fetcher("x", lambda _: None), cancel, lambda _: None, "")


def test_a_cache_on_a_file_system_without_links_has_the_file_itself(
    hub: HubServer, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(os.EX_UNAVAILABLE, "no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    pulled = pull("org/m-GGUF")
    assert not pulled.path.is_symlink()
    assert pulled.path.read_bytes() == (repo / "m-Q4_K_M.gguf").read_bytes()
    assert pull("org/m-GGUF").received == 0


def test_a_folder_of_the_cache_that_cannot_be_read_is_told(
    hub: HubServer, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pull("org/m-GGUF").path
    (path.parents[2] / "refs" / "main").write_bytes(b"\xff\xfe")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match=r"The hub's cache of org/m-GGUF cannot be read: .*\nLook at the folder"):
        pull("org/m-GGUF")


def test_a_disk_that_fails_to_read_is_told(hub: HubServer, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", fail)
        with pytest.raises(BadOutput, match=r"cannot be written: Input/output error"):
            pull("org/m-GGUF")
        patched.undo()
        patched.setattr(shutil, "disk_usage", fail)
        with pytest.raises(BadOutput, match=r"cannot be looked into: Input/output error"):
            pull("org/m-GGUF:Q8_0")
    assert pull("org/m-GGUF").path.read_bytes() == (repo / "m-Q4_K_M.gguf").read_bytes()
