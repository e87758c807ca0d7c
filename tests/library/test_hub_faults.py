"""What the network does to a conversion: cuts, busy servers, links that end, and a stop in the middle."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from make_tiny_models import TinyLlama, write_checkpoint

import localllm
from localllm.convert import convert
from localllm.errors import Cancelled, DownloadFailed
from localllm.library import listing, ranges, readahead
from tests.library.hub_server import HubServer
from tests.library.repos import open_repo, read, same_weights


@pytest.mark.slow
def test_few_connections_serve_many_requests(
    hub: HubServer, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readahead, "PIECE", 50_000)
    hub.add("org/tiny", tiny)
    localllm.convert_model("org/tiny", tmp_path / "a.gguf")
    assert len(hub.requests) > 50
    assert hub.connections <= 1 + 2 * readahead.CONNECTIONS  # the hub and its store, and whoever asked for the listing


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_a_file_of_another_size_is_not_read(hub: HubServer, tiny: Path) -> None:
    hub.add("org/tiny", tiny)
    hub.faults.size = 1_000_000
    files = open_repo()
    with pytest.raises(DownloadFailed, match=r"bytes where 1,000,000 were announced"):
        read(files, "model-00001-of-00003.safetensors")
    files.close()


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_hub_that_goes_away_in_the_middle_leaves_nothing_behind(hub: HubServer, tmp_path: Path) -> None:
    hub.add("org/tiny", write_checkpoint(tmp_path / "wide", TinyLlama(hidden=512, ffn=2048, layers=4)))
    (tmp_path / "out").mkdir()
    with pytest.raises(DownloadFailed, match=r"model.safetensors could not be read: .*\nCheck the network"):
        localllm.convert_model(
            "org/tiny", tmp_path / "out" / "x.gguf", announce=lambda *_: hub.faults.statuses.extend([503] * 1000)
        )
    assert list((tmp_path / "out").iterdir()) == []
