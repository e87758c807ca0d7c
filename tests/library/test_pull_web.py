"""Models at addresses of their own come into the models folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants

import localllm
from localllm import library, settings
from localllm.cli.main import main
from localllm.errors import BadCheckpoint, BadModelFile, BadOutput, DownloadFailed, ModelNotFound
from localllm.library import ranges
from localllm.library.pulling import transfer
from tests.library.hub_server import HubServer
from tests.library.pulls import interrupt, model, pull, unfinished


@pytest.fixture
def address(hub: HubServer, tmp_path: Path, blocks: None) -> str:
    """A model of many blocks on a web server."""
    hub.files["m.gguf"] = tmp_path / "served.gguf"
    hub.files["m.gguf"].write_bytes(model(500_000))
    return f"{hub.web}/m.gguf"


def folder() -> Path:
    return settings.models_dirs()[0]


def test_a_file_comes_into_the_models_folder(hub: HubServer, address: str) -> None:
    pulled = pull(f"{address}?download=true")
    assert pulled.path == folder() / "m.gguf"
    assert pulled.path.read_bytes() == model(500_000)
    assert library.resolve("m") == pulled.path
    assert len(hub.asked("m.gguf")) > 10
    assert pull(address).path == pulled.path
    with pytest.raises(
        BadCheckpoint, match=r"m.gguf is a GGUF, not a checkpoint.*\n.*localllm convert FILE --type Q4_0"
    ):
        pull(address, "Q4_0")


def test_a_redirect_to_another_server_is_followed_without_the_token(
    hub: HubServer, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert pull(f"{hub.url}/away/m.gguf").path.read_bytes() == model(500_000)


def test_it_goes_on_after_an_interruption(hub: HubServer, address: str) -> None:
    interrupt(address, 100_000)
    assert not (folder() / "m.gguf").exists()
    pulled = pull(address)
    assert pulled.path.read_bytes() == model(500_000)
    assert pulled.received < 450_000
    assert unfinished(folder()) == []


def test_a_file_that_was_changed_meanwhile_is_fetched_anew(hub: HubServer, address: str) -> None:
    interrupt(address, 100_000)
    hub.files["m.gguf"].write_bytes(model(500_000, seed=1))
    assert pull(address).path.read_bytes() == model(500_000, seed=1)


def test_a_file_that_changes_while_it_is_fetched_is_refused(hub: HubServer, address: str, tmp_path: Path) -> None:
    def change(done: int, _total: int) -> None:
        if done:
            hub.files["m.gguf"] = other

    (other := tmp_path / "other.gguf").write_bytes(model(500_000, seed=1))
    hub.faults.pause = 0.01
    from localllm.library import pulling

    with pytest.raises(DownloadFailed, match=r"m.gguf is another file than before.\nIt may just be changing"):
        pulling.look_up(address).fetch(change)


def test_a_busy_server_is_asked_again_when_it_says(
    hub: HubServer, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(ranges.Fetcher, "_pause", lambda self, seconds: waited.append(seconds))
    hub.faults.retry_after, hub.faults.statuses = "9", [503, 429]
    said: list[str] = []
    assert pull(address, said=said).path.read_bytes() == model(500_000)
    assert waited == [9.0, 9.0]
    assert said[0] == f"{address}: the server answers 503; waiting 9 s"


def test_a_server_without_ranges_is_enough(hub: HubServer, address: str) -> None:
    hub.faults.ignore_ranges, hub.faults.cuts, hub.faults.cut_after = True, 2, 200_000
    assert pull(address).path.read_bytes() == model(500_000)


def test_parts_come_together(hub: HubServer, tmp_path: Path) -> None:
    for number in (1, 2):
        name = f"p-0000{number}-of-00002.gguf"
        hub.files[name] = tmp_path / name
        hub.files[name].write_bytes(model(20_000, number))
    pulled = pull(f"{hub.web}/p-00002-of-00002.gguf")
    assert [path.name for path in pulled.files] == ["p-00001-of-00002.gguf", "p-00002-of-00002.gguf"]
    assert [path.read_bytes() for path in pulled.files] == [model(20_000, 1), model(20_000, 2)]


@pytest.mark.parametrize(("given", "stem", "ending"), [("a%20%2B", "a +", "gguf"), ("p", "p", "GGUF")])
def test_parts_come_together_whatever_their_names(
    hub: HubServer, tmp_path: Path, given: str, stem: str, ending: str
) -> None:
    names = [f"{stem}-0000{number}-of-00002.{ending}" for number in (1, 2)]
    for number, name in enumerate(names):
        hub.files[f"d/{name}"] = tmp_path / name
        hub.files[f"d/{name}"].write_bytes(model(20_000, number))
    pulled = pull(f"{hub.web}/d/{given}-00002-of-00002.{ending}?key=1")
    assert [path.name for path in pulled.files] == names
    assert [path.read_bytes() for path in pulled.files] == [model(20_000, 0), model(20_000, 1)]


def test_another_file_of_that_name_stays(hub: HubServer, address: str) -> None:
    folder().mkdir(parents=True)
    (folder() / "m.gguf").write_bytes(b"mine")
    with pytest.raises(BadOutput, match=r"m.gguf exists already and is another file: it has 4 bytes, not 50\d,\d+"):
        pull(address)
    assert (folder() / "m.gguf").read_bytes() == b"mine"


def test_another_file_of_that_name_and_size_stays(hub: HubServer, address: str) -> None:
    folder().mkdir(parents=True)
    (folder() / "m.gguf").write_bytes(model(500_000, seed=1))
    with pytest.raises(BadOutput, match=r"m.gguf exists already and is another file: it has the same size and other"):
        pull(address)
    hub.faults.ignore_ranges = True
    with pytest.raises(BadOutput, match=r"m.gguf exists already and is another file: it has the same size and other"):
        pull(address)
    assert (folder() / "m.gguf").read_bytes() == model(500_000, seed=1)


def test_a_part_that_is_here_counts_when_it_is_the_same(hub: HubServer, tmp_path: Path) -> None:
    names = [f"p-0000{number}-of-00002.gguf" for number in (1, 2)]
    folder().mkdir(parents=True)
    for number, name in enumerate(names):
        hub.files[name] = tmp_path / name
        hub.files[name].write_bytes(model(200_000, number))
    (folder() / names[0]).write_bytes(model(200_000, 0))
    pulled = pull(f"{hub.web}/{names[0]}")
    assert [path.read_bytes() for path in pulled.files] == [model(200_000, 0), model(200_000, 1)]
    assert list(pulled.sha256) == [folder() / names[1]]
    (folder() / names[1]).write_bytes(model(200_000, 2))
    with pytest.raises(BadOutput, match=r"p-00002-of-00002.gguf exists already and is another file: it has the same"):
        pull(f"{hub.web}/{names[0]}")


def test_a_split_model_goes_on_where_the_server_gives_no_parts(hub: HubServer, tmp_path: Path) -> None:
    names = [f"p-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, name in enumerate(names):
        hub.files[name] = tmp_path / name
        hub.files[name].write_bytes(model(200_000, number))
    hub.faults.ignore_ranges = True
    interrupt(f"{hub.web}/{names[0]}", 250_000)
    assert (folder() / names[0]).is_file()
    said: list[str] = []
    pulled = pull(f"{hub.web}/{names[0]}", said=said)
    assert [path.read_bytes() for path in pulled.files] == [model(200_000, 0), model(200_000, 1)]
    assert any(f"{names[0]} exists already; its server gives no parts, so all of it is read" in text for text in said)


def test_a_hash_that_is_given_has_to_fit(hub: HubServer, address: str, tmp_path: Path) -> None:
    right = hashlib.sha256(model(500_000)).hexdigest()
    with pytest.raises(DownloadFailed, match=r"not what it should be: its hash is \w{64}, not 0{64}\. It was removed"):
        localllm.pull(address, sha256="0" * 64)
    assert list(folder().glob("*.gguf")) == unfinished(folder()) == []
    assert localllm.pull(address, sha256=right.upper()) == folder() / "m.gguf"
    sent = hub.sent
    assert localllm.pull(address, sha256=right) == folder() / "m.gguf"
    assert hub.sent <= sent + 1, "one byte tells the size"
    with pytest.raises(BadOutput, match=r"m.gguf exists already and is another file"):
        localllm.pull(address, sha256="1" * 64)
    with pytest.raises(BadModelFile, match=r"is one of 2 parts: one hash does not fit them all"):
        localllm.pull(f"{hub.web}/p-00001-of-00002.gguf", sha256=right)
    with pytest.raises(BadModelFile, match=r"org/name is no address of a file: a hash does not apply.\nLeave --sha256"):
        localllm.pull("org/name", sha256=right)
    with pytest.raises(SystemExit):
        main(["pull", address, "--sha256", right[1:]])


def test_what_another_process_put_there_meanwhile_is_compared(
    hub: HubServer, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*_: object) -> dict[Path, str]:
        (folder() / "m.gguf").write_bytes(model(500_000, seed=1))
        return {}

    folder().mkdir(parents=True)
    monkeypatch.setattr(transfer, "fetch", other)
    with pytest.raises(BadOutput, match="the same size and other bytes"):
        pull(address)


def test_a_page_in_its_place_is_refused(hub: HubServer, address: str) -> None:
    hub.files["m.gguf"].write_bytes(b"<!DOCTYPE html>" + bytes(100_000))
    with pytest.raises(BadModelFile, match=r"begins with b'<!DO'. It was removed.\nIs it the right address"):
        pull(address)
    assert not list(folder().glob("*.gguf"))
    assert unfinished(folder()) == []


def test_what_a_server_refuses_is_told(hub: HubServer, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFound, match=r"There is no file at http.*/n.gguf"):
        pull(address.replace("m.gguf", "n.gguf"))
    hub.faults.statuses = [403]
    with pytest.raises(DownloadFailed, match=r"does not give .* to everybody \(status 403\).\n.*localllm import"):
        pull(address)
    hub.faults.statuses = [451]
    with pytest.raises(DownloadFailed, match=r"refuses .* with status 451"):
        pull(address)
    hub.faults.no_length, hub.faults.ignore_ranges = True, True
    with pytest.raises(DownloadFailed, match="does not tell how large the file is"):
        pull(address)
    with pytest.raises(
        DownloadFailed, match=r"could not be read: .*6 times in a row.\nCheck the network; the same command"
    ):
        pull("http://127.0.0.1:9/m.gguf")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE forbids to fetch"):
        pull(address)
