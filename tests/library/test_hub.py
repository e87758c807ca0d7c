"""A repo of the hub as a source: the bytes of the folder, whatever the network does; what is refused, cached, kept."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, hf_hub_download
from make_tiny_models import TinyLlama, write_checkpoint

import localllm
from localllm import library
from localllm.convert import convert, preview
from localllm.convert.checkpoint import open_checkpoint
from localllm.convert.files import Files, LocalFiles
from localllm.errors import BadCheckpoint, BadOutput, Cancelled, DownloadFailed, ModelNotFound
from localllm.gguf_file import read_header
from localllm.library import hub as hub_module
from localllm.library import listing, ranges, readahead
from tests.convert.piece_files import older_checkpoint
from tests.convert.torch_pickles import write_tensors
from tests.library.hub_server import HubServer


def open_repo(name: str = "org/tiny", remark: Callable[[str], None] | None = None) -> Files:
    found = library.open_source(name, remark=remark)
    assert not isinstance(found, Path)
    return found


def read(files: Files, name: str) -> bytes:
    buffer = bytearray(files.size(name))
    assert files.read_into(name, 0, memoryview(buffer)) == len(buffer)
    return bytes(buffer)


def same_weights(repo_file: Path, local_file: Path) -> bool:
    """The same tensors behind headers that tell of another source."""
    ours, theirs = read_header(repo_file), read_header(local_file)
    assert [info.name for info in ours.tensors] == [info.name for info in theirs.tensors]
    starts = [header.tensors[0].offset for header in (ours, theirs)]
    return repo_file.read_bytes()[starts[0] :] == local_file.read_bytes()[starts[1] :]


def test_a_repo_becomes_what_its_folder_becomes(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    repo = hub.add("org/tiny", tiny)
    result = localllm.convert_model("org/tiny", tmp_path / "a.gguf")
    assert same_weights(result.outfile, convert(tiny, tmp_path / "b.gguf").outfile)
    keys = read_header(result.outfile).metadata
    assert (keys["localllm.source.repository"], keys["localllm.source.revision"]) == ("org/tiny", repo.commit)
    assert hub.sent == sum(file.stat().st_size for file in tiny.iterdir())
    assert not (tmp_path / "cache").exists()


def test_a_file_is_verified_against_a_repo_that_is_read_once(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    hub.add("org/tiny", tiny)
    path = localllm.convert_model("org/tiny", tmp_path / "a.gguf").outfile
    before = hub.sent
    proof = localllm.verify_model(path, "org/tiny")
    assert proof.ok
    assert proof.identical == len(proof.checks) > 20
    assert hub.sent - before == sum(file.stat().st_size for file in tiny.iterdir())
    assert proof.compared is not None
    assert proof.compared.hashes == 3
    hub.add("org/tiny", write_checkpoint(tmp_path / "other", TinyLlama(shards=3, seed=2)))
    problems = localllm.verify_model(path, "org/tiny").problems
    assert {problem.about for problem in problems} == {"source", "tensors"}


def test_a_repo_of_the_older_dialect_has_its_tokenizer_in_a_model_file(hub: HubServer, tmp_path: Path) -> None:
    folder = older_checkpoint("gemma", tmp_path / "gemma")
    hub.add("org/gemma", folder)
    theirs = localllm.convert_model("org/gemma", tmp_path / "a.gguf", type="F16").outfile
    ours = convert(folder, tmp_path / "b.gguf", type="F16").outfile
    assert same_weights(theirs, ours)
    found, expected = ({k: v for k, v in read_header(path).metadata.items() if "token" in k} for path in (theirs, ours))
    assert found == expected
    assert found["tokenizer.ggml.model"] == "llama"


def test_a_preview_reads_headers_only(hub: HubServer, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "wide", TinyLlama(hidden=512, ffn=2048, layers=4))
    hub.add("org/wide", folder)
    found = preview(open_repo("org/wide"))
    assert found.tensors == preview(folder).tensors
    assert (folder / "model.safetensors").stat().st_size > 20e6
    small = sum(file.stat().st_size for file in folder.iterdir() if file.suffix == ".json")
    assert hub.sent <= small + (64 << 10)
    assert any("MB come from the hub while they are converted" in note for note in found.notes)


def test_few_connections_serve_many_requests(
    hub: HubServer, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readahead, "PIECE", 50_000)
    hub.add("org/tiny", tiny)
    localllm.convert_model("org/tiny", tmp_path / "a.gguf")
    assert len(hub.requests) > 50
    assert hub.connections <= 1 + 2 * readahead.CONNECTIONS  # the hub and its store, and whoever asked for the listing


def test_the_file_is_named_after_the_repo(hub: HubServer, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/Some-Model", tiny)
    monkeypatch.chdir(tiny.parent)
    assert localllm.convert_model("org/Some-Model", type="Q8_0").outfile == Path("Some-Model-Q8_0.gguf")


def test_a_folder_goes_before_a_repo_of_its_name(
    hub: HubServer, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/tiny", tiny)
    shutil.copytree(tiny, tmp_path / "org" / "tiny")
    monkeypatch.chdir(tmp_path)
    assert library.open_source("org/tiny") == Path("org/tiny")
    assert hub.requests == []


def test_cuts_busy_servers_and_expired_links_are_survived(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    hub.add("org/tiny", tiny)
    files = open_repo()
    hub.faults.cuts, hub.faults.cut_after = 5, 10_000
    hub.faults.expired_links = 3
    hub.faults.statuses = [503, 429, 500]
    result = localllm.convert_model(files, tmp_path / "a.gguf")
    assert same_weights(result.outfile, convert(tiny, tmp_path / "b.gguf").outfile)
    assert (hub.faults.cuts, hub.faults.expired_links, hub.faults.statuses) == (0, 0, [])


def test_a_server_that_ignores_ranges_gives_the_same_bytes(hub: HubServer, tiny: Path) -> None:
    hub.add("org/tiny", tiny)
    hub.faults.ignore_ranges = True
    files = open_repo()
    for path in tiny.iterdir():
        assert read(files, path.name) == path.read_bytes()
    files.close()


def test_a_server_that_ignores_ranges_of_a_large_file_is_refused(
    hub: HubServer, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/tiny", tiny)
    hub.faults.ignore_ranges = True
    monkeypatch.setattr(ranges, "_MOST_SKIPPED", 1000)
    files = open_repo()
    with pytest.raises(DownloadFailed, match=r"does not give parts of it\.\nDownload it as a whole: --keep-download"):
        files.read_into("model-00001-of-00003.safetensors", 500_000, memoryview(bytearray(10)))
    files.close()


def test_a_busy_hub_is_asked_again_what_it_has(hub: HubServer, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(listing, "time", SimpleNamespace(sleep=waited.append))
    hub.add("org/tiny", tiny)
    said: list[str] = []
    hub.faults.retry_after, hub.faults.statuses = "9", [503, 429]
    open_repo(remark=said.append).close()
    assert waited == [9.0, 9.0]
    assert said == ["the hub answers 503; waiting 9 s", "the hub answers 429; waiting 9 s"]
    hub.faults.statuses = [502] * 5
    with pytest.raises(DownloadFailed, match=r"not in the hub's cache on this machine, and the hub .* answers 502"):
        open_repo()


def test_a_hub_that_refuses_is_quoted(hub: HubServer, tiny: Path) -> None:
    hub.add("org/tiny", tiny)
    hub.faults.statuses = [400] * 5
    with pytest.raises(DownloadFailed, match="The hub refuses org/tiny with status 400"):
        open_repo()


def test_retry_after_is_waited_for(hub: HubServer, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(ranges.Fetcher, "_pause", lambda self, seconds: waited.append(seconds))
    hub.add("org/tiny", tiny)
    said: list[str] = []
    files = open_repo(remark=said.append)
    hub.faults.retry_after, hub.faults.statuses = "7", [429]
    read(files, "model-00003-of-00003.safetensors")
    files.close()
    assert 7.0 in waited
    assert any("the server answers 429; waiting 7 s" in line for line in said)


def test_a_hub_that_stays_busy_is_given_up(hub: HubServer, tiny: Path) -> None:
    hub.add("org/tiny", tiny)
    files = open_repo()
    hub.faults.statuses = [503] * 1000
    with pytest.raises(DownloadFailed, match="could not be read: the server answers 503, 6 times in a row"):
        read(files, "model-00003-of-00003.safetensors")
    files.close()


def test_stopping_ends_a_conversion_in_the_middle(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    hub.add("org/tiny", tiny)
    files = open_repo()
    hub.faults.pause = 30.0

    timer = threading.Timer(0.2, files.stop)
    timer.start()
    with pytest.raises(Cancelled):
        read(files, "model-00003-of-00003.safetensors")
    files.close()
    timer.join()


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


def test_files_in_folders_are_read(hub: HubServer, tiny: Path) -> None:
    (tiny / "1_Pooling").mkdir()
    (tiny / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    hub.add("org/tiny", tiny)
    files = open_repo()
    assert read(files, "1_Pooling/config.json") == b'{"pooling_mode_mean_tokens": true}'
    files.expect([])
    files.close()


def test_half_a_model_in_the_cache_is_not_enough(hub: HubServer, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/tiny", tiny)
    hf_hub_download("org/tiny", "config.json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match="not in the hub's cache on this machine with its weights"):
        open_repo()


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
    with pytest.raises(BadCheckpoint, match=r"holds GGUF files.*\n.*hf download org/ggufs model-Q8_0.gguf"):
        open_repo("org/ggufs")


def test_a_repo_without_weights_says_what_it_has(hub: HubServer, tiny: Path) -> None:
    for path in tiny.glob("model*"):
        path.unlink()
    (tiny / "weights.bin").write_bytes(b"x")
    hub.add("org/tiny", tiny)
    with pytest.raises(BadCheckpoint, match=r"holds no weights: no model.safetensors.*\n.*\.bin"):
        open_repo()


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


def test_a_file_of_another_size_is_not_read(hub: HubServer, tiny: Path) -> None:
    hub.add("org/tiny", tiny)
    hub.faults.size = 1_000_000
    files = open_repo()
    with pytest.raises(DownloadFailed, match=r"bytes where 1,000,000 were announced"):
        read(files, "model-00001-of-00003.safetensors")
    files.close()


def test_a_kept_file_with_another_hash_is_removed(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    hub.add("org/tiny", tiny)
    hub.faults.sha256 = "0" * 64
    with pytest.raises(DownloadFailed, match="not what the hub says it is"):
        localllm.convert_model("org/tiny", tmp_path / "a.gguf", keep_download=True)
    assert list((tmp_path / "cache").rglob("*.safetensors")) == []
    assert not (tmp_path / "a.gguf").exists()


def test_pickles_are_read_by_range(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    with open_checkpoint(tiny) as checkpoint:
        tensors = checkpoint.tensors.values()
        numbers = {t.name: (t.dtype, checkpoint.rows(t.name, 0, t.rows).reshape(t.shape)) for t in tensors}
    expected = convert(tiny, tmp_path / "b.gguf").outfile
    for path in tiny.glob("model*"):
        path.unlink()
    write_tensors(tiny / "pytorch_model.bin", numbers)
    hub.add("org/tiny", tiny)
    assert same_weights(localllm.convert_model("org/tiny", tmp_path / "a.gguf").outfile, expected)


@pytest.fixture
def environment(hub: HubServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a command that talks to the hub."""
    root = str(Path(localllm.__file__).parent.parent)
    places = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": root}
    return {**os.environ, **places, "HF_TOKEN": hub.token}


COMMAND = [sys.executable, "-m", "localllm", "convert", "org/tiny", "--outfile", "out/x.gguf"]


@pytest.mark.slow
def test_the_environment_counts_on_the_command_line(
    hub: HubServer, tiny: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    hub.add("org/tiny", tiny, gate="private")
    (tmp_path / "out").mkdir()

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, "--force", "--keep-download"]
        return subprocess.run(command, env={**environment, **more}, cwd=tmp_path, capture_output=True, text=True)

    done = run()
    assert done.returncode == 0, done.stderr
    assert "looking up org/tiny on the hub" in done.stderr
    assert (tmp_path / "hf" / "hub" / "models--org--tiny").is_dir()
    hub.requests.clear()
    done = run(HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    done = run(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty"))
    assert done.returncode == 1
    assert "HF_HUB_OFFLINE forbids to ask" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("keep", [[], ["--keep-download"]])
def test_ctrl_c_while_the_network_hangs_leaves_nothing_behind(
    hub: HubServer, tmp_path: Path, environment: dict[str, str], keep: list[str]
) -> None:
    hub.add("org/tiny", write_checkpoint(tmp_path / "wide", TinyLlama(hidden=512, ffn=2048, layers=4)))
    out = tmp_path / "out"
    out.mkdir()
    hub.faults.hang_after = 1 << 20
    with subprocess.Popen([*COMMAND, *keep], env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None and not list(out.glob(".*")):
            time.sleep(0.01)
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
    hub.faults.hang_after = math.inf
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert list(out.iterdir()) == []


def test_what_is_done_is_not_read_again(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead, "ROOM", 4 << 20)
    monkeypatch.setattr(readahead, "PIECE", 1 << 20)
    folder = write_checkpoint(tmp_path / "wide", TinyLlama(hidden=512, ffn=2048, layers=8))
    hub.add("org/wide", folder)

    def stop(done: int, total: int) -> None:
        if done > 0.7 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        localllm.convert_model("org/wide", tmp_path / "a.gguf", type="Q8_0", resume=True, progress=stop)
    hub.sent = 0
    result = localllm.convert_model("org/wide", tmp_path / "a.gguf", type="Q8_0", resume=True)
    assert hub.sent < 0.5 * (folder / "model.safetensors").stat().st_size
    assert same_weights(result.outfile, convert(folder, tmp_path / "b.gguf", type="Q8_0").outfile)


def test_a_hub_that_goes_away_in_the_middle_leaves_nothing_behind(hub: HubServer, tmp_path: Path) -> None:
    hub.add("org/tiny", write_checkpoint(tmp_path / "wide", TinyLlama(hidden=512, ffn=2048, layers=4)))
    (tmp_path / "out").mkdir()
    with pytest.raises(DownloadFailed, match=r"model.safetensors could not be read: .*\nCheck the network"):
        localllm.convert_model(
            "org/tiny", tmp_path / "out" / "x.gguf", announce=lambda *_: hub.faults.statuses.extend([503] * 1000)
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_the_extra_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("localllm.library.hub")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(library, "hub", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(localllm.MissingPackage, match=r"pip install 'localllm\[hub\]'"):
        library.open_source("org/tiny")
    assert hub_module is not None
