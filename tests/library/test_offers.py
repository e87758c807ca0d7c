"""What a repo that a search found offers: sizes, what a load takes, what is here already."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from make_tiny_models import TinyLlama, write_checkpoint

from localllm.errors import DownloadFailed, ModelNotFound
from localllm.gguf_file import read_header
from localllm.library.facts import needed_by
from localllm.library.offers import Offer, offers_of
from localllm.library.search import Hit, search
from localllm.native import devices
from localllm.runtime.more_weights import table_bytes
from tests.library.hub_server import HubServer
from tests.library.pulls import interrupt, pull, put_models


def found(name: str) -> Hit:
    (hit,) = search([name])
    return hit


def offers(name: str) -> list[Offer]:
    return offers_of(found(name), lambda _: None)


def test_each_quantization_has_a_size_and_a_name_to_pull(hub: HubServer, machine: Path, tmp_path: Path) -> None:
    folder = put_models(tmp_path / "g", "m-Q8_0.gguf", "m-Q4_K_M.gguf", "a/m-Q4_K_M.gguf", "mmproj-F16.gguf")
    os.truncate(folder / "m-Q8_0.gguf", 90_000)
    hub.add("org/tiny-GGUF", folder)
    assert [(offer.label, offer.name, offer.bytes) for offer in offers("tiny")] == [
        ("Q8_0", "org/tiny-GGUF:Q8_0", 90_000),
        ("a/m-Q4_K_M.gguf", "org/tiny-GGUF/a/m-Q4_K_M.gguf", (folder / "a/m-Q4_K_M.gguf").stat().st_size),
        ("m-Q4_K_M.gguf", "org/tiny-GGUF/m-Q4_K_M.gguf", (folder / "m-Q4_K_M.gguf").stat().st_size),
    ]


def test_what_a_load_takes_is_known_from_the_first_bytes(hub: HubServer, machine: Path, smollm2: Path) -> None:
    hub.add("org/smol-GGUF", smollm2.parent)
    (offer,) = offers("smol")
    header = read_header(smollm2)
    # The first bytes do not say how large the table is that a matrix unit keeps a second time.
    second = table_bytes(header) if devices.has_matrix_unit() else 0
    assert offer.needed == pytest.approx(needed_by(header) - second, rel=0.05)
    assert hub.sent < 200_000


def test_a_repo_that_is_gated_tells_sizes_and_no_more(hub: HubServer, machine: Path, tmp_path: Path) -> None:
    hub.add("org/gated-GGUF", put_models(tmp_path / "g", "m-Q4_K_M.gguf"), gate="gated")
    (offer,) = offers("gated")
    assert offer.bytes > 100_000
    assert offer.needed == 0


@pytest.mark.usefixtures("blocks")
def test_what_is_here_whole_or_in_part_is_known(hub: HubServer, machine: Path, tmp_path: Path) -> None:
    hub.add("org/tiny-GGUF", put_models(tmp_path / "g", "m-Q4_K_M.gguf", "m-Q8_0.gguf", size=400_000))
    path = pull("org/tiny-GGUF:Q8_0").path
    hub.faults.pause = 0.01
    interrupt("org/tiny-GGUF:Q4_K_M", after=30_000)
    partly, whole = offers("tiny")
    assert (whole.path, whole.arrived) == (path, 0)
    assert partly.path is None
    assert 30_000 <= partly.arrived < partly.bytes


def test_a_checkpoint_is_offered_converted(hub: HubServer, machine: Path, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", TinyLlama(shards=3))
    about = {"config": {"architectures": ["LlamaForCausalLM"]}, "safetensors": {"parameters": {}, "total": 8_000_000}}
    hub.add("org/tiny", folder).about = dict(about)
    (offer,) = offers("tiny")
    assert (offer.label, offer.name, offer.bytes) == ("Q4_K_M", "org/tiny", 5_000_000)
    assert offer.source > sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def test_a_repo_that_is_gone_and_a_hub_that_no_longer_answers_are_said(
    hub: HubServer, machine: Path, tmp_path: Path
) -> None:
    hub.add("org/tiny-GGUF", put_models(tmp_path / "g", "m-Q4_K_M.gguf"))
    hit = found("tiny")
    hub.faults.statuses = [503, 503, 503]
    with pytest.raises(DownloadFailed, match="answers 503"):
        offers_of(hit, lambda _: None)
    hub.repos.clear()
    with pytest.raises(ModelNotFound, match="no model of that name on the hub"):
        offers_of(hit, lambda _: None)
