"""Importance matrices: the bytes are those of llama.cpp's own quantizer, and one of another model is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compare_gguf import different_tensors

from localllm.cli.main import main
from localllm.convert import Settings, convert, preview
from localllm.convert.imatrix import open_imatrix
from localllm.errors import BadCheckpoint, BadModelFile, ModelNotFound, UnsupportedModel
from localllm.gguf_file import read_header
from localllm.native.quants import quantize_file
from tests.convert.golden import goldens, write_checkpoint
from tests.convert.helpers import NEED_IMATRIX, MakeTiny
from tests.convert.matrices import importance, measured, write_gguf, write_older

SLOW = ("IQ1_M", "IQ1_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_XXS")
KINDS = ["Q4_0", "Q4_K_M", "Q5_K_S", "IQ4_XS", "IQ4_NL", "IQ3_M", "Q8_0", *(set(NEED_IMATRIX) - set(SLOW))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*sorted(KINDS), *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)])
def test_the_bytes_are_those_of_llama_quantize(tiny: MakeTiny, tmp_path: Path, kind: str) -> None:
    source = tiny(layers=1, ffn=256)
    between = convert(source, tmp_path / "between.gguf", type="BF16").outfile
    entries = measured(between)
    matrix = write_gguf(tmp_path / "imatrix.gguf", entries)
    ours = convert(source, tmp_path / "ours.gguf", settings=Settings(kind, imatrix=matrix)).outfile
    quantize_file(between, tmp_path / "theirs.gguf", kind, imatrix=importance(entries))
    assert different_tensors(read_header(ours), read_header(tmp_path / "theirs.gguf")) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Q4_K_M", "IQ4_XS"])
def test_stacked_experts_have_an_importance_each(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (golden,) = (golden for golden in goldens() if golden.name == "mixtral")
    source = write_checkpoint(golden, tmp_path / "mixtral")
    between = convert(source, tmp_path / "between.gguf", type="F16").outfile
    entries = measured(between)
    sums, counts = entries["blk.0.ffn_down_exps.weight"]
    counts[1] = 0
    entries["blk.0.ffn_down_exps.weight"] = sums, counts
    settings = Settings(kind, imatrix=write_gguf(tmp_path / "imatrix.gguf", entries))
    quantize_file(between, tmp_path / "theirs.gguf", kind, imatrix=importance(entries))
    for numbers in (1 << 20, 5000):
        monkeypatch.setattr("localllm.convert.slabs.slabs.__defaults__", (numbers,))
        result = convert(source, tmp_path / "ours.gguf", settings=settings, force=True)
        assert different_tensors(read_header(result.outfile), read_header(tmp_path / "theirs.gguf")) == []
    assert any("1 experts in 1 tensors were never used" in note for note in result.preview.notes)


def test_the_older_format_gives_the_same_numbers(tiny: MakeTiny, tmp_path: Path) -> None:
    model = convert(tiny(), tmp_path / "x.gguf", type="BF16").outfile
    entries = {name: (sums, np.full_like(counts, 5)) for name, (sums, counts) in measured(model).items()}
    new = open_imatrix(write_gguf(tmp_path / "imatrix.gguf", entries))
    old = open_imatrix(write_older(tmp_path / "imatrix.dat", entries))
    assert (old.chunks, old.dataset) == (17, "calibration.txt")
    assert (new.chunks, new.dataset) == (17, "wiki.train.raw")
    assert old.entries.keys() == new.entries.keys() == entries.keys()
    for name, (sums, _) in entries.items():
        np.testing.assert_array_equal(old.columns(name, 0, sums.size), sums[0] / np.float32(5))
        np.testing.assert_array_equal(new.columns(name, 0, sums.size), sums[0] / np.float32(5))


@pytest.mark.slow
def test_where_it_comes_from_is_in_the_file(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    entries = measured(convert(source, tmp_path / "x.gguf", type="BF16").outfile)
    matrix = write_gguf(tmp_path / "imatrix.gguf", entries)
    keys = read_header(convert(source, tmp_path / "y.gguf", settings=Settings(imatrix=matrix)).outfile).metadata
    assert list(keys)[-6:] == [
        "general.quantization_version",
        "general.file_type",
        "quantize.imatrix.file",
        "quantize.imatrix.dataset",
        "quantize.imatrix.entries_count",
        "quantize.imatrix.chunks_count",
    ]
    assert keys["quantize.imatrix.file"] == str(matrix)[:127]
    assert keys["quantize.imatrix.dataset"] == "wiki.train.raw"
    assert keys["quantize.imatrix.entries_count"] == len(entries)
    assert keys["quantize.imatrix.chunks_count"] == 17


@pytest.mark.slow
def test_it_changes_the_picks(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(layers=8)
    matrix = write_gguf(tmp_path / "i.gguf", measured(convert(source, tmp_path / "x.gguf", type="BF16").outfile))
    plain, weighed = preview(source, "IQ4_XS"), preview(source, settings=Settings("IQ4_XS", imatrix=matrix))
    assert weighed.bytes < plain.bytes
    assert {t.type for t in plain.tensors if t.name == "blk.0.ffn_down.weight"} == {"Q5_K"}
    assert {t.type for t in weighed.tensors if t.name == "blk.0.ffn_down.weight"} == {"IQ4_XS"}


def test_a_type_that_needs_one_says_how_to_get_it(tiny: MakeTiny) -> None:
    with pytest.raises(UnsupportedModel, match=r"(?s)IQ2_XS needs an importance matrix.*--imatrix.*llama-imatrix"):
        preview(tiny(), "IQ2_XS")


def test_what_is_refused_at_once_does_not_wait_for_the_tokenizer(tiny: MakeTiny) -> None:
    source = tiny()
    (source / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModel, match="IQ2_XS needs an importance matrix"):
        preview(source, "IQ2_XS")
    with pytest.raises(BadCheckpoint, match=r"no tokenizer"):
        preview(source, "Q4_0")


def test_missing_entries_are_told_and_needed_ones_refused(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    entries = measured(convert(source, tmp_path / "x.gguf", type="BF16").outfile)
    del entries["blk.1.attn_q.weight"]
    matrix = write_gguf(tmp_path / "imatrix.gguf", entries)
    notes = preview(source, settings=Settings("Q4_K_M", imatrix=matrix)).notes
    assert any("says nothing of 2 of 16 tensors: token_embd.weight, blk.1.attn_q.weight" in note for note in notes)
    with pytest.raises(BadModelFile, match=r"no entry for blk\.1\.attn_q\.weight"):
        preview(source, settings=Settings("IQ2_XS", imatrix=matrix))


@pytest.mark.slow
def test_a_matrix_of_another_model_is_refused(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    wide = convert(tiny("wide", hidden=512), tmp_path / "wide.gguf", type="BF16").outfile
    matrix = write_gguf(tmp_path / "imatrix.gguf", measured(wide))
    with pytest.raises(BadModelFile, match=r"512 numbers for output\.weight, which has 256 columns"):
        preview(source, settings=Settings(imatrix=matrix))
    other = write_gguf(
        tmp_path / "other.gguf", {"encoder.weight": (np.ones((1, 9), np.float32), np.ones(1, np.float32))}
    )
    with pytest.raises(BadModelFile, match="no entry for any matrix"):
        preview(source, settings=Settings(imatrix=other))


def test_what_is_no_importance_matrix_is_refused(tiny: MakeTiny, tmp_path: Path) -> None:
    model = convert(tiny(), tmp_path / "x.gguf", type="BF16").outfile
    with pytest.raises(BadModelFile, match=r"(?s)holds no importance matrix.*it is a model"):
        open_imatrix(model)
    (tmp_path / "notes.txt").write_text("not an importance matrix, but long enough to hold a number or two")
    with pytest.raises(BadModelFile, match="is not an importance matrix"):
        open_imatrix(tmp_path / "notes.txt")
    with pytest.raises(ModelNotFound):
        open_imatrix(tmp_path / "nowhere.gguf")
    entries = measured(model)
    whole = write_older(tmp_path / "imatrix.dat", entries).read_bytes()
    (tmp_path / "cut.dat").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadModelFile, match="ends in the middle"):
        open_imatrix(tmp_path / "cut.dat")
    entries["output.weight"][0][0, 3] = np.nan
    with pytest.raises(BadModelFile, match=r"output\.weight holds a number that is not finite"):
        open_imatrix(write_gguf(tmp_path / "nan.gguf", entries))
    del entries["output.weight"]
    sums, _ = entries["blk.0.attn_q.weight"]
    entries["blk.0.attn_q.weight"] = sums, np.ones(7, dtype=np.float32)
    with pytest.raises(BadModelFile, match=r"counts of blk\.0\.attn_q\.weight"):
        open_imatrix(write_gguf(tmp_path / "counts.gguf", entries))


@pytest.mark.slow
def test_the_flag(tiny: MakeTiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tiny()
    matrix = write_gguf(tmp_path / "i.gguf", measured(convert(source, tmp_path / "x.gguf", type="BF16").outfile))
    out = str(tmp_path / "y.gguf")
    assert main(["convert", str(source), "--type", "iq2_m", "--outfile", out]) == 1
    assert "--imatrix" in capsys.readouterr().err
    assert main(["convert", str(source), "--type", "iq2_m", "--outfile", out, "--imatrix", str(matrix)]) == 0
    assert read_header(Path(out)).quantization == "IQ2_M"
