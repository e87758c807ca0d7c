"""A checkpoint repo is converted while it is downloaded, into the models folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from localllm import library, settings
from localllm.convert import convert
from localllm.errors import BadCheckpoint, BadOutput, DownloadFailed, ModelNotFound, UnsupportedModel
from localllm.gguf_file import read_header
from localllm.library import pulling
from tests.library.hub_server import HubServer
from tests.library.pulls import pull
from tests.library.repos import same_weights


@pytest.mark.slow
def test_a_checkpoint_ends_as_a_gguf(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    hub.add("org/tiny", tiny)
    found = pulling.look_up("org/tiny", type="Q8_0")
    assert found.converts
    assert "is a checkpoint: it is converted to Q8_0" in found.about
    pulled = found.fetch(lambda _done, _total: None)
    assert pulled.path == settings.models_dirs()[0] / "tiny-Q8_0.gguf"
    assert pulled.received > 0
    assert same_weights(pulled.path, convert(tiny, tmp_path / "x.gguf", type="Q8_0").outfile)
    assert library.resolve("tiny-Q8_0") == pulled.path
    sent = hub.sent
    assert pull("org/tiny", "Q8_0").path == pulled.path
    assert pull(f"{hub.url}/org/tiny", "Q8_0").path == pulled.path, "by the address of its page"
    assert hub.sent == sent
    assert read_header(pull("org/tiny").path).quantization == "Q4_K_M"


@pytest.mark.slow
def test_an_interrupted_conversion_goes_on(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    hub.add("org/tiny", tiny)

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pulling.look_up("org/tiny", type="Q8_0").fetch(stop)
    assert not (settings.models_dirs()[0] / "tiny-Q8_0.gguf").exists()
    said: list[str] = []
    path = pull("org/tiny", "Q8_0", said).path
    assert any("going on with an interrupted conversion" in text for text in said), said
    assert same_weights(path, convert(tiny, tmp_path / "x.gguf", type="Q8_0").outfile)


def test_another_file_of_that_name_stays(hub: HubServer, tiny: Path) -> None:
    hub.add("org/tiny", tiny)
    target = settings.models_dirs()[0] / "tiny-Q4_K_M.gguf"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    with pytest.raises(BadOutput, match=r"tiny-Q4_K_M.gguf exists already and is another model"):
        pull("org/tiny")
    assert target.read_bytes() == b"mine"


def test_a_quantization_of_a_checkpoint_is_offered(hub: HubServer, tiny: Path) -> None:
    hub.add("org/tiny", tiny)
    with pytest.raises(ModelNotFound, match=r"that has no Q8_0.\nConvert it .*localllm pull org/tiny --type Q8_0\n"):
        pull("org/tiny:Q8_0")
    with pytest.raises(ModelNotFound, match=r"org/tiny@\w{8} has no file x.gguf"):
        pull("org/tiny/x.gguf")
    with pytest.raises(UnsupportedModel, match="Q9"):
        pull("org/tiny", "Q9")


def test_a_repo_without_anything_says_what_it_has(hub: HubServer, tiny: Path) -> None:
    for path in tiny.glob("model*"):
        path.unlink()
    hub.add("org/tiny", tiny)
    with pytest.raises(BadCheckpoint, match=r"holds no weights"):
        pull("org/tiny")
    (tiny / "m-Q8_0.gguf").write_bytes(b"GGUF")
    with pytest.raises(
        BadCheckpoint, match=r"holds GGUF files and no checkpoint.*\n.*localllm pull org/tiny/m-Q8_0.gguf"
    ):
        pull("org/tiny", "Q4_K_M")


def test_offline_a_checkpoint_has_to_be_here(hub: HubServer, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match="org/tiny is not in the hub's cache"):
        pull("org/tiny", "Q8_0")
