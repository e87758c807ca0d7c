"""A repo of the hub as a source: the bytes of the folder, headers first, every file that a conversion needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from make_tiny_models import TinyLlama, write_checkpoint

import localllm
from localllm import library
from localllm.convert import convert, preview
from localllm.convert.checkpoint import open_checkpoint
from localllm.gguf_file import read_header
from tests.convert.piece_files import older_checkpoint
from tests.convert.torch_pickles import write_tensors
from tests.library.hub_server import HubServer
from tests.library.repos import open_repo, read, same_weights


@pytest.mark.slow
def test_a_repo_becomes_what_its_folder_becomes(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    repo = hub.add("org/tiny", tiny)
    result = localllm.convert_model("org/tiny", tmp_path / "a.gguf")
    assert same_weights(result.outfile, convert(tiny, tmp_path / "b.gguf").outfile)
    keys = read_header(result.outfile).metadata
    assert (keys["localllm.source.repository"], keys["localllm.source.revision"]) == ("org/tiny", repo.commit)
    assert hub.sent == sum(file.stat().st_size for file in tiny.iterdir())
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_repo_of_the_older_dialect_has_its_tokenizer_in_a_model_file(hub: HubServer, tmp_path: Path) -> None:
    folder = older_checkpoint("gemma", tmp_path / "gemma")
    hub.add("org/gemma", folder)
    theirs = localllm.convert_model("org/gemma", tmp_path / "a.gguf", type="F16").outfile
    ours = convert(folder, tmp_path / "b.gguf", type="F16").outfile
    assert same_weights(theirs, ours)
    found, expected = ({k: v for k, v in read_header(path).metadata.items() if "token" in k} for path in (theirs, ours))
    assert found == expected
    assert found["tokenizer.ggml.model"] == "llama"


@pytest.mark.slow
def test_a_preview_reads_headers_only(hub: HubServer, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "wide", TinyLlama(hidden=512, ffn=2048, layers=4))
    hub.add("org/wide", folder)
    found = preview(open_repo("org/wide"))
    assert found.tensors == preview(folder).tensors
    assert (folder / "model.safetensors").stat().st_size > 20e6
    small = sum(file.stat().st_size for file in folder.iterdir() if file.suffix == ".json")
    assert hub.sent <= small + (64 << 10)
    assert any("MB come from the hub while they are converted" in note for note in found.notes)


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


def test_files_in_folders_are_read(hub: HubServer, tiny: Path) -> None:
    (tiny / "1_Pooling").mkdir()
    (tiny / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    hub.add("org/tiny", tiny)
    files = open_repo()
    assert read(files, "1_Pooling/config.json") == b'{"pooling_mode_mean_tokens": true}'
    files.expect([])
    files.close()


@pytest.mark.slow
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
