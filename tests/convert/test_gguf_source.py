"""A GGUF quantized anew: the bytes are those of llama-quantize, and a loss on top of a loss is told."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm import api
from localllm.cli.main import main
from localllm.convert import Settings, convert, default_outfile, preview
from localllm.convert.quantizations import TENSOR_TYPES
from localllm.errors import BadModelFile, BadOutput
from localllm.gguf_file import read_header
from localllm.native.quants import quantize_file
from tests.convert.helpers import MakeTiny


@pytest.mark.slow
@pytest.mark.parametrize("before", ["F32", "F16", "Q8_0", "Q4_K_M", "IQ4_NL", "TQ2_0"])
@pytest.mark.parametrize("kind", ["Q4_K_M", "Q5_0", "F16"])
def test_the_bytes_are_those_of_llama_quantize(tiny: MakeTiny, tmp_path: Path, before: str, kind: str) -> None:
    source = convert(tiny(), tmp_path / "source.gguf", type=before).outfile
    ours = convert(source, tmp_path / "ours.gguf", type=kind).outfile
    quantize_file(source, tmp_path / "theirs.gguf", kind, requantize=True)
    assert ours.read_bytes() == (tmp_path / "theirs.gguf").read_bytes()


# Without those that need an importance matrix, those that the gguf package does not read, and the two slowest.
READ_BY_BOTH = sorted(set(TENSOR_TYPES) - {"IQ1_S", "IQ2_XXS", "IQ2_XS", "Q1_0", "Q2_0", "IQ1_M", "IQ2_S"})


@pytest.mark.slow
@pytest.mark.parametrize("kind", READ_BY_BOTH)
def test_every_type_is_read_as_the_gguf_package_reads_it(tiny: MakeTiny, tmp_path: Path, kind: str) -> None:
    settings = Settings("Q8_0", output_type=kind)
    source = convert(tiny(layers=1), tmp_path / "source.gguf", settings=settings).outfile
    plain = convert(source, tmp_path / "plain.gguf", type="F32").outfile
    stored, found = ({t.name: t for t in gguf.GGUFReader(path).tensors}["output.weight"] for path in (source, plain))
    expected = gguf.quants.dequantize(stored.data, stored.tensor_type)
    np.testing.assert_array_equal(found.data, expected.reshape(found.data.shape))


@pytest.mark.slow
def test_a_source_in_several_files(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(layers=3)
    whole = convert(source, tmp_path / "whole.gguf", type="F16").outfile
    parts = convert(source, tmp_path / "part.gguf", settings=Settings("F16", split_max_size=800_000)).files
    assert len(parts) > 2
    ours = [convert(path, tmp_path / f"{path.stem}.out", type="Q4_K_M").outfile for path in (whole, parts[0])]
    assert ours[0].read_bytes() == ours[1].read_bytes()
    with pytest.raises(BadOutput, match="is a file of the source itself"):
        convert(parts[0], parts[1], force=True)
    assert default_outfile(parts[0], "Q8_0").name == "part-Q8_0.gguf"
    parts[1].unlink()
    with pytest.raises(Exception, match=parts[1].name):
        preview(parts[0])


def test_a_quantized_source_is_told_of_and_a_plain_one_is_not(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    plain = convert(source, tmp_path / "plain.gguf", type="BF16").outfile
    quantized = convert(source, tmp_path / "small.gguf", type="Q5_0").outfile
    assert not any("quantized already" in note for note in preview(plain).notes)
    assert any("quantized already (Q5_0, Q6_K)" in note for note in preview(quantized).notes)
    assert preview(plain).tokenizer is None


@pytest.mark.slow
def test_single_tensors_can_be_changed(tiny: MakeTiny, tmp_path: Path) -> None:
    """Also those that have the types by which matrices are told from what is never quantized."""
    for before in ("Q8_0", "Q4_0"):
        source = convert(tiny(before), tmp_path / f"{before}.gguf", type=before).outfile
        settings = Settings(before, tensor_types=(("ffn_down", "Q6_K"),))
        types = {tensor.name: tensor.type for tensor in preview(source, settings=settings).tensors}
        assert types["blk.0.ffn_down.weight"] == "Q6_K"
        assert types["blk.0.ffn_up.weight"] == before


def test_it_is_fitted_like_a_checkpoint(tiny: MakeTiny, tmp_path: Path) -> None:
    source = convert(tiny(layers=4), tmp_path / "x.gguf", type="F16").outfile
    assert api.fit(source, 10**9, n_ctx=512).type == "Q8_0"


@pytest.mark.slow
def test_the_name_says_the_new_type(tiny: MakeTiny, tmp_path: Path) -> None:
    for name in ("my-model-Q8_0", "my-model.q8_0", "my-model"):
        source = convert(tiny("tiny"), tmp_path / f"{name}.gguf", type="Q8_0").outfile
        assert default_outfile(source, "Q4_K_M").name == "my-model-Q4_K_M.gguf"


def test_a_file_that_a_store_named_by_its_hash_goes_by_its_own_name(tiny: MakeTiny, tmp_path: Path) -> None:
    for called, name in {"Tiny Llama 1/2": "Tiny-Llama-1-2-Q4_K_M.gguf", "": "model-Q4_K_M.gguf"}.items():
        settings = Settings("Q8_0", metadata=(("general.name", called),))
        whole = convert(tiny("tiny"), tmp_path / "x.gguf", settings=settings, force=True).outfile
        blob = whole.replace(tmp_path / f"sha256-{'0a' * 32}")
        assert default_outfile(blob, "Q4_K_M").name == name


def test_a_damaged_file_is_refused(tiny: MakeTiny, tmp_path: Path) -> None:
    source = convert(tiny(), tmp_path / "x.gguf", type="F16").outfile
    source.write_bytes(source.read_bytes()[:-5000])
    with pytest.raises(BadModelFile, match="cut short"):
        preview(source)


@pytest.mark.slow
def test_the_command(
    tiny: MakeTiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = convert(tiny(), tmp_path / "mine-F16.gguf", type="F16").outfile
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(source), "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["outfile"] == "mine-Q4_K_M.gguf"
    assert found["verification"]["tokenizer"] is None
    assert "the vocabulary is that of the source" in err
    assert read_header(Path(found["outfile"])).quantization == "Q4_K_M"
