"""A model in several files: llama.cpp loads it, and either all files are there or none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localllm.cli.main import main
from localllm.convert import Settings, convert, preview
from localllm.errors import BadOutput, UnsupportedModel
from localllm.gguf_file import read_header, read_parts
from tests.convert.golden import llama_outputs
from tests.convert.helpers import MakeTiny
from tests.convert.matrices import measured, write_gguf

LIMIT = 400_000


@pytest.mark.slow
def test_llama_cpp_computes_the_same_with_several_files(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(layers=3)
    whole = convert(source, tmp_path / "whole.gguf", type="Q8_0").outfile
    result = convert(source, tmp_path / "split.gguf", settings=Settings("Q8_0", split_max_size=LIMIT))
    count = len(result.files)
    assert count > 2
    assert [file.name for file in result.files] == [
        f"split-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)
    ]
    assert result.outfile == result.files[0]
    assert result.bytes == sum(file.stat().st_size for file in result.files)
    np.testing.assert_array_equal(llama_outputs(result.outfile), llama_outputs(whole))


@pytest.mark.slow
def test_each_file_is_as_gguf_split_makes_it(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(layers=3)
    whole = read_header(convert(source, tmp_path / "whole.gguf", type="Q8_0").outfile)
    result = convert(source, tmp_path / "split.gguf", settings=Settings("Q8_0", split_max_size=LIMIT))
    parts = read_parts(result.outfile)
    assert [tensor.name for part in parts for tensor in part.tensors] == [tensor.name for tensor in whole.tensors]
    for number, part in enumerate(parts):
        assert part.tensors
        assert sum(-(-tensor.n_bytes // 32) * 32 for tensor in part.tensors) <= LIMIT
        split = {"split.no": number, "split.tensors.count": len(whole.tensors), "split.count": len(parts)}
        assert part.metadata == ({**whole.metadata, **split} if number == 0 else split)
        for tensor in part.tensors:
            before = next(other for other in whole.tensors if other.name == tensor.name)
            assert _bytes(part.path, tensor.offset, tensor.n_bytes) == _bytes(whole.path, before.offset, before.n_bytes)


def _bytes(path: Path, offset: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(count)


@pytest.mark.slow
def test_what_fits_in_one_file_is_not_split(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    plain = convert(source, tmp_path / "a.gguf").outfile
    limited = convert(source, tmp_path / "b.gguf", settings=Settings(split_max_size=10**9))
    assert limited.files == (tmp_path / "b.gguf",)
    assert plain.read_bytes() == limited.outfile.read_bytes()


def test_one_tensor_that_is_too_large_is_named(tiny: MakeTiny) -> None:
    with pytest.raises(UnsupportedModel, match=r"output\.weight alone has 87,040 bytes, more than the 50,000"):
        preview(tiny(), settings=Settings("Q8_0", split_max_size=50_000))


@pytest.mark.slow
def test_no_file_keeps_its_name_unless_all_are_whole(
    tiny: MakeTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tiny(layers=3), tmp_path / "out"
    out.mkdir()
    settings = Settings("Q8_0", split_max_size=LIMIT)
    replace = Path.replace

    def fail_at_the_second(self: Path, target: Path) -> Path:
        if "00002" in target.name:
            raise OSError(5, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_second)
    with pytest.raises(BadOutput, match="00002-of"):
        convert(source, out / "x.gguf", settings=settings)
    assert list(out.iterdir()) == []
    monkeypatch.undo()

    def interrupt(done: int, total: int) -> None:
        assert not list(out.glob("x*"))
        if done * 2 > total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, out / "x.gguf", settings=settings, progress=interrupt)
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_any_file_that_is_there_needs_force(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(layers=3)
    settings = Settings("Q8_0", split_max_size=LIMIT)
    files = convert(source, tmp_path / "x.gguf", settings=settings).files
    files[0].unlink()
    with pytest.raises(BadOutput, match=f"{files[1].name} exists already"):
        convert(source, tmp_path / "x.gguf", settings=settings)
    assert convert(source, tmp_path / "x.gguf", settings=settings, force=True).files == files


@pytest.mark.slow
def test_only_the_names_that_are_written_count(tiny: MakeTiny, tmp_path: Path) -> None:
    source, plain = tiny(layers=3), tmp_path / "x.gguf"
    plain.write_text("precious")
    settings = Settings("Q8_0", split_max_size=LIMIT)
    files = convert(source, plain, settings=settings).files
    assert plain not in files
    assert plain.read_text() == "precious"
    told: list[object] = []
    with pytest.raises(BadOutput, match=f"{files[0].name} exists already"):
        convert(source, plain, settings=settings, announce=lambda *what: told.append(what))
    whole = Settings("Q8_0", split_max_size=10**9)
    with pytest.raises(BadOutput, match=r"x\.gguf exists already"):
        convert(source, plain, settings=whole, announce=lambda *what: told.append(what))
    assert told == []
    assert plain.read_text() == "precious"


@pytest.mark.slow
def test_no_part_replaces_an_importance_matrix(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(layers=3)
    entries = measured(convert(source, tmp_path / "whole.gguf", type="F16").outfile)
    settings = Settings("Q8_0", split_max_size=LIMIT)
    count = preview(source, settings=settings).files
    matrix = write_gguf(tmp_path / f"x-00002-of-{count:05}.gguf", entries)
    with pytest.raises(BadOutput, match=f"x-00002-of-{count:05}.gguf is the importance matrix"):
        convert(source, tmp_path / "x.gguf", settings=replace(settings, imatrix=matrix), force=True)


def test_the_flag(tiny: MakeTiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.gguf"
    flags = ["--type", "q8_0", "--split-max-size", "0.4MB", "--json"]
    assert main(["convert", str(tiny(layers=3)), "--outfile", str(out), *flags]) == 0
    printed, err = capsys.readouterr()
    found = json.loads(printed)
    assert found["outfile"] == found["files"][0]
    assert all(Path(file).is_file() for file in found["files"])
    assert f"in {len(found['files'])} files" in err
