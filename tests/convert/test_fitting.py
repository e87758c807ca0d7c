"""The best type that fits: what it needs is what a load of the finished file needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localllm import api
from localllm.cli.main import main
from localllm.convert import Settings, convert, prepare
from localllm.convert.files import Files
from localllm.convert.fitting import LADDER, Need, best_fit
from localllm.convert.quantizations import TYPES
from localllm.convert.reading import ReadModel, read_model
from localllm.errors import DoesNotFit
from localllm.gguf_file import read_header
from localllm.runtime.options import Options
from localllm.runtime.plan import make_plan
from tests.convert.helpers import MakeTiny


def needed(path: Path, n_ctx: int) -> int:
    return make_plan(path, Options(n_ctx=n_ctx, gpu_layers=0)).total


@pytest.mark.slow
def test_what_is_said_is_what_the_finished_file_needs(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(layers=4)
    sizes = {
        kind: needed(convert(source, tmp_path / "x.gguf", type=kind, force=True).outfile, 512)
        for kind in ("BF16", "Q8_0", "Q6_K")
    }
    assert sizes["BF16"] > sizes["Q8_0"] > sizes["Q6_K"]
    best = api.fit(source, sizes["BF16"], n_ctx=512)
    assert (best.type, best.need.bytes, best.next_type) == ("BF16", sizes["BF16"], None)
    middle = api.fit(source, sizes["BF16"] - 1, n_ctx=512)
    assert (middle.type, middle.need.bytes) == ("Q8_0", sizes["Q8_0"])
    assert middle.next_need is not None
    assert (middle.next_type, middle.next_need.bytes) == ("BF16", sizes["BF16"])
    assert api.fit(source, sizes["Q8_0"] - 1, n_ctx=512).type == "Q6_K"


@pytest.mark.slow
def test_a_larger_context_leaves_less_for_the_weights(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(layers=4)
    budget = needed(convert(source, tmp_path / "x.gguf", type="Q8_0").outfile, 512)
    assert api.fit(source, budget, n_ctx=512).type == "Q8_0"
    assert api.fit(source, budget, n_ctx=1024).need.n_ctx == 1024
    assert LADDER.index(api.fit(source, budget, n_ctx=1024).type) > LADDER.index("Q8_0")


def test_nothing_fits_in_too_little(tiny: MakeTiny) -> None:
    with pytest.raises(DoesNotFit, match=r"(?s)Even in Q2_K .* more than the 1,000 .*--ctx.*--imatrix"):
        api.fit(tiny(), 1000, n_ctx=512)


@pytest.mark.parametrize(("kind", "better"), [("Q4_K_M", "Q5_K_S"), ("BF16", None)])
def test_a_type_whose_weights_alone_are_too_much_is_not_measured(tiny: MakeTiny, kind: str, better: str | None) -> None:
    measured = []

    def measure(path: Path) -> Need:
        measured.append(read_header(path).quantization)
        return Need(path.stat().st_size, 512, exact=True)

    with prepare(tiny(), "BF16") as prepared:
        fit = best_fit(prepared, prepared.with_type(kind).preview.bytes, measure)
        assert (fit.type, fit.next_type) == (kind, better)
        assert measured == [kind, *([better] if better else [])]
        measured.clear()
        with pytest.raises(DoesNotFit, match="Even in Q2_K"):
            best_fit(prepared, 1000, measure)
        assert measured == ["Q2_K"]


def test_every_rung_is_a_type() -> None:
    assert set(LADDER) <= set(TYPES)


def test_the_settings_count_in_what_is_needed(tiny: MakeTiny) -> None:
    source = tiny(layers=4)
    plain = api.fit(source, 10**9, n_ctx=512)
    wide = api.fit(source, 10**9, n_ctx=512, settings=Settings(output_type="F32"))
    assert wide.need.bytes > plain.need.bytes


@pytest.mark.slow
def test_the_command_says_what_it_chose(
    tiny: MakeTiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny(layers=4)
    budget = needed(convert(source, tmp_path / "x.gguf", type="Q5_K_M").outfile, 512)
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(source), "--fit", str(budget), "--ctx", "512"]) == 0
    out, err = capsys.readouterr()
    assert out == "tiny-Q5_K_M.gguf\n"
    assert "Q5_K_M needs" in err
    assert "the next better type, Q6_K, would need" in err
    assert read_header(tmp_path / "tiny-Q5_K_M.gguf").quantization == "Q5_K_M"
    assert main(["convert", str(source), "--fit", "1kB"]) == 1
    for wrong in (["--fit", "much"], ["--fit", "6GB", "--type", "Q8_0"]):
        with pytest.raises(SystemExit) as stopped:
            main(["convert", str(source), *wrong])
        assert stopped.value.code == 2


@pytest.mark.slow
def test_the_command_looks_at_the_source_once_and_writes_what_it_would_without(
    tiny: MakeTiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny(layers=4)
    plain = convert(source, tmp_path / "plain.gguf", settings=Settings("Q5_K_M", split_max_size=400_000)).files
    whole = convert(source, tmp_path / "whole.gguf", type="Q5_K_M").outfile
    reads: list[object] = []

    def read(place: Path | Files) -> ReadModel:
        reads.append(place)
        return read_model(place)

    monkeypatch.setattr("localllm.convert.read_model", read)
    flags = ["--fit", str(needed(whole, 512)), "--ctx", "512", "--split-max-size", "0.4MB"]
    assert main(["convert", str(source), "--outfile", str(tmp_path / "x.gguf"), *flags]) == 0
    assert len(reads) == 1
    files = sorted(tmp_path.glob("x-*.gguf"))
    assert len(files) == len(plain) > 1
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in plain]
    capsys.readouterr()
    assert main(["convert", str(source), "--preview", "--json", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["type"], found["bytes"]) == ("Q5_K_M", sum(file.stat().st_size for file in files))
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("text", "count"), [("6GB", 6 * 10**9), ("5.5GiB", 11 << 29), ("512 MiB", 512 << 20), ("7g", 7 * 10**9), ("9", 9)]
)
def test_amounts_of_memory(text: str, count: int) -> None:
    from localllm.cli.values import byte_count

    assert byte_count(text) == count
