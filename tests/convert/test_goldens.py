"""The gate of every family: a tiny checkpoint, converted to F32, gives the outputs of transformers in llama.cpp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_goldens import computed

from localllm.convert import convert, prepare
from localllm.convert.families import known
from tests.convert.golden import Golden, error, goldens, llama_outputs, write_checkpoint

GOLDENS = goldens()
LIMIT = 1e-3


def assert_the_same(golden: Golden, folder: Path) -> None:
    """Convert the checkpoint of a golden and compare what llama.cpp computes with its outputs."""
    path = convert(write_checkpoint(golden, folder / "tiny"), folder / "x.gguf", type="F32").outfile
    found = llama_outputs(path, embeds=golden.embeds)
    assert error(golden.outputs, found) < LIMIT
    if not golden.embeds:
        best = golden.outputs.max(axis=1)
        chosen = golden.outputs[np.arange(len(found)), found.argmax(axis=1)]
        assert np.all(best - chosen <= 1e-3 * np.abs(best)), "another token is the likeliest"


@pytest.mark.parametrize("golden", GOLDENS, ids=[golden.name for golden in GOLDENS])
def test_llama_cpp_computes_what_transformers_computes(golden: Golden, tmp_path: Path) -> None:
    assert_the_same(golden, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("golden", GOLDENS, ids=[golden.name for golden in GOLDENS])
def test_the_older_dialect_of_config_gives_the_same_file(golden: Golden, tmp_path: Path) -> None:
    headers = []
    for config in (golden.config, golden.old_config):
        folder = write_checkpoint(golden, tmp_path / "tiny", config)
        with prepare(folder, "F32") as prepared:
            headers.append(prepared.header)
            assert prepared.preview.types.keys() == {"F32"}
            assert [note for note in prepared.preview.notes if note.endswith(".")] == []
    assert golden.old_config != golden.config
    assert headers[0] == headers[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of transformers are not ours
@pytest.mark.parametrize("golden", GOLDENS, ids=[golden.name for golden in GOLDENS])
def test_llama_cpp_computes_what_the_installed_transformers_computes(golden: Golden, tmp_path: Path) -> None:
    for package in ("torch", "transformers"):
        pytest.importorskip(package, reason=f"compares with transformers itself: pip install {package}")
    assert_the_same(computed(golden), tmp_path)


def test_every_architecture_has_a_golden() -> None:
    covered = {config["architectures"][0] for golden in GOLDENS for config in (golden.config, golden.old_config)}
    assert sorted(set(known()) - covered) == []
