"""Searching the hub: what can be pulled, and how."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from localllm.cli.main import main
from localllm.errors import DownloadFailed
from localllm.library import asking
from localllm.library.search import search
from tests.library.hub_server import HubServer
from tests.library.pulls import put_models


@pytest.fixture
def filled(hub: HubServer, tmp_path: Path) -> HubServer:
    """A hub with models of several kinds; sizes of files do not matter."""
    ggufs = put_models(tmp_path / "g", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf", size=10)
    told = {"downloads": 2000, "tags": ["gguf", "license:apache-2.0"], "gguf": {"total": 1_700_000_000}}
    hub.add("org/tiny-GGUF", ggufs).about = {**told, "likes": 7, "lastModified": "2026-01-02T03:04:05.000Z"}
    hub.add("org/tiny-one-GGUF", put_models(tmp_path / "o", "m-Q8_0.gguf", size=10)).about = {"downloads": 5}
    hub.add("org/tiny-two-GGUF", put_models(tmp_path / "t", "Q8_0/m.gguf", "m-Q2_K.gguf", size=10))
    for name, architecture in (("tiny", "LlamaForCausalLM"), ("tiny-vision", "ViTForImageClassification")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"x")
        about = {"config": {"architectures": [architecture]}, "safetensors": {"parameters": {}, "total": 3_000_000}}
        hub.add(f"org/{name}", folder).about = {**about, "gated": "manual"}
    return hub


def test_what_can_be_pulled_is_found(filled: HubServer) -> None:
    hits = {hit.repo: hit for hit in search(["tiny"])}
    assert set(hits) == {"org/tiny-GGUF", "org/tiny-one-GGUF", "org/tiny-two-GGUF", "org/tiny"}
    found = hits["org/tiny-GGUF"]
    assert (found.kind, found.quantizations, found.licence) == ("gguf", ("Q4_K_M", "Q8_0"), "apache-2.0")
    assert (found.downloads, found.likes, found.parameters) == (2000, 7, 1_700_000_000)
    assert (found.changed, found.gated) == ("2026-01-02", False)
    assert set(hits["org/tiny-two-GGUF"].quantizations) == {"Q2_K", "Q8_0"}, "one of them is in a folder"
    checkpoint = hits["org/tiny"]
    assert (checkpoint.kind, checkpoint.parameters, checkpoint.gated) == ("checkpoint", 3_000_000, True)
    assert [hits[f"org/{name}"].pull for name in ("tiny-GGUF", "tiny-one-GGUF", "tiny-two-GGUF", "tiny")] == [
        "org/tiny-GGUF",
        "org/tiny-one-GGUF",
        "org/tiny-two-GGUF:Q8_0",
        "org/tiny --type Q4_K_M",
    ]


def test_words_and_limit_count(filled: HubServer) -> None:
    assert [hit.repo for hit in search(["one", "tiny"])] == ["org/tiny-one-GGUF"]
    assert len(search(["tiny"], limit=2)) == 2
    assert any("limit=10" in path for _, path, _ in filled.requests)
    assert search(["nothing"]) == []


def test_the_command_shows_a_table_or_json(filled: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "tiny", "--limit", "9"]) == 0
    out = capsys.readouterr().out
    assert "2,000  1.7B     apache-2.0" in out
    assert "(Q4_K_M, Q8_0)" in out
    assert "?, ask for access" in out
    assert main(["search", "one", "--json"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["words"] == ["one"]
    assert document["models"][0]["pull"] == "org/tiny-one-GGUF"
    assert document["models"][0]["licence"] is None
    assert main(["search", "nothing"]) == 0
    assert "try fewer words" in capsys.readouterr().out


def test_a_hub_that_refuses_and_one_that_may_not_be_asked_are_said(
    filled: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.search_status = 403
    with pytest.raises(DownloadFailed, match="answers 403"):
        search(["tiny"])
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE forbids to search"):
        search(["tiny"])


def test_a_busy_hub_says_when_to_ask_again(filled: HubServer) -> None:
    filled.search_status, filled.faults.retry_after = 429, "30"
    with pytest.raises(DownloadFailed, match=r"answers 429\.\n.*try again in 30 s"):
        search(["tiny"])
    assert len(filled.asked("/api/models?")) == 1


def test_a_hub_that_cannot_be_reached_is_said_in_our_words_alone(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(["search", "tiny"]) == 1
    said = capfd.readouterr().err
    assert "http://127.0.0.1:9) cannot be reached" in said
    assert "Retry" not in said


def test_a_hub_that_takes_the_question_and_says_nothing_is_given_up(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DownloadFailed, match="cannot be reached"):
            search(["tiny"])


def test_what_answers_otherwise_than_a_hub_is_said(filled: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", f"{filled.url}/away/page?")
    page = filled.files["page"] = filled.repos["org/tiny"].folder / "login.html"
    page.write_text("<html>Log in</html>")
    with pytest.raises(DownloadFailed, match="is no hub"):
        search(["tiny"])


def test_the_next_page_is_asked_for_when_this_one_holds_too_few(filled: HubServer) -> None:
    filled.page_length = 2
    assert len(search(["tiny"])) == 4
    assert len(filled.asked("/api/models?")) == 3
