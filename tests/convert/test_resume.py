"""A conversion that is interrupted anywhere goes on, to the same bytes; another one starts anew and says why."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from localllm.convert import Conversion, Settings, convert, journal
from localllm.convert.outfiles import journal_of, new_files, part_of
from localllm.convert.quantizer import Quantizer
from localllm.convert.slabs import Slab
from localllm.errors import BadCheckpoint, BadOutput
from tests.convert.helpers import MakeTiny, edit_json

Convert = Callable[..., Conversion]


class Stop(Exception):
    """Whoever converts goes away."""


@pytest.fixture(autouse=True)
def _small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localllm.convert.slabs.slabs.__defaults__", (20_000,))


def interrupt(source: Path, target: Path, part: float = 0.5, **options: Any) -> None:
    """Convert until so much is done."""

    def stop(done: int, total: int) -> None:
        if done >= part * total:
            raise Stop

    with pytest.raises(Stop):
        convert(source, target, resume=True, progress=stop, threads=2, **options)


def resumed(source: Path, target: Path, **options: Any) -> tuple[Conversion, list[str]]:
    said: list[str] = []
    return convert(source, target, resume=True, remark=said.append, **options), said


@pytest.mark.slow
@pytest.mark.parametrize("part", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["Q4_K_M", "F16"])
def test_an_interrupted_conversion_goes_on_to_the_same_bytes(
    tiny: MakeTiny, tmp_path: Path, part: float, kind: str
) -> None:
    source, target = tiny(), tmp_path / "x.gguf"
    whole = convert(source, tmp_path / "whole.gguf", type=kind)
    interrupt(source, target, part, type=kind)
    assert not target.exists()
    assert part_of(target).exists()
    again, said = resumed(source, target, type=kind)
    assert again.outfile.read_bytes() == whole.outfile.read_bytes()
    assert again.verification == whole.verification
    assert any("going on with an interrupted conversion" in line for line in said)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_what_is_done_is_not_done_again(tiny: MakeTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tiny(), tmp_path / "x.gguf"
    interrupt(source, target, 0.5)
    handled: list[int] = []

    def counted(quantizer: Quantizer, slab: Slab, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        handled.append(slab.count)
        return quantize(quantizer, slab, rows)

    quantize = Quantizer.quantized
    monkeypatch.setattr(Quantizer, "quantized", counted)
    result, _ = resumed(source, target)
    assert 0 < sum(handled) <= 0.5 * result.preview.parameters


@pytest.mark.slow
def test_several_files_go_on_too(tiny: MakeTiny, tmp_path: Path) -> None:
    source, settings = tiny(), Settings(type="Q8_0", split_max_size=200_000)
    whole = convert(source, tmp_path / "whole.gguf", settings=settings)
    assert len(whole.files) > 3
    interrupt(source, tmp_path / "x.gguf", 0.6, settings=settings)
    again, _ = resumed(source, tmp_path / "x.gguf", settings=settings)
    assert [file.read_bytes() for file in again.files] == [file.read_bytes() for file in whole.files]


@pytest.mark.slow
def test_files_that_got_their_names_before_the_end_are_taken_back(
    tiny: MakeTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, settings = tiny(), Settings(type="Q8_0", split_max_size=200_000)
    whole = convert(source, tmp_path / "whole.gguf", settings=settings)
    calls: list[Path] = []
    rename = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if path.suffix == ".part" and path != target:
            calls.append(target)
            if len(calls) > 2:
                os._exit(9)
        return rename(path, target)

    child = os.fork()
    if child == 0:
        Path.replace = killed  # type: ignore[method-assign, assignment]
        convert(source, tmp_path / "x.gguf", settings=settings)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list(tmp_path.glob("x-*.gguf"))) == 2
    again, _ = resumed(source, tmp_path / "x.gguf", settings=settings)
    assert [file.read_bytes() for file in again.files] == [file.read_bytes() for file in whole.files]
    assert list(tmp_path.glob(".x*")) == []


def change_settings(source: Path) -> dict[str, Any]:
    return {"settings": Settings(exact_source=True)}


def change_type(source: Path) -> dict[str, Any]:
    return {"type": "Q8_0"}


def change_source(source: Path) -> dict[str, Any]:
    os.utime(source / "model.safetensors")
    return {}


def change_config(source: Path) -> dict[str, Any]:
    edit_json(source / "config.json", rms_norm_eps=0.1)
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (change_settings, "the settings are others"),
        (change_type, "the settings are others, or the configuration"),
        (change_config, "the settings are others, or the configuration"),
        (change_source, "the files of the source"),
    ],
)
def test_another_conversion_starts_anew_and_says_why(
    tiny: MakeTiny, tmp_path: Path, change: Callable[[Path], dict[str, Any]], why: str
) -> None:
    source, target = tiny(dtype="f32"), tmp_path / "x.gguf"
    interrupt(source, target)
    options = change(source)
    again, said = resumed(source, target, **options)
    assert said[0].startswith(f"starting at the beginning: {why}")
    assert again.outfile.read_bytes() == convert(source, tmp_path / "whole.gguf", **options).outfile.read_bytes()


@pytest.mark.slow
def test_without_resume_it_starts_anew_and_says_so(tiny: MakeTiny, tmp_path: Path) -> None:
    source, target = tiny(), tmp_path / "x.gguf"
    interrupt(source, target)
    said: list[str] = []
    convert(source, target, type="Q8_0", remark=said.append)
    assert "dropped; --resume goes on" in said[0]
    assert target.read_bytes() == convert(source, tmp_path / "whole.gguf", type="Q8_0").outfile.read_bytes()
    assert list(tmp_path.glob(".x*")) == []


@pytest.mark.slow
def test_there_may_be_nothing_to_go_on_with(tiny: MakeTiny, tmp_path: Path) -> None:
    _, said = resumed(tiny(), tmp_path / "x.gguf")
    assert said == ["starting at the beginning: nothing of it is done yet"]
    with pytest.raises(BadOutput, match="exists already"):
        resumed(tiny("again"), tmp_path / "x.gguf")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 20)


def _garbage(path: Path) -> None:
    path.write_bytes(b"\0" * 100)


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [_cut, _garbage, _emptied])
@pytest.mark.parametrize("place", [journal_of, part_of])
def test_damage_costs_time_and_not_the_result(
    tiny: MakeTiny, tmp_path: Path, damage: Callable[[Path], None], place: Callable[[Path], Path]
) -> None:
    source, target = tiny(), tmp_path / "x.gguf"
    interrupt(source, target)
    damage(place(target))
    again, _ = resumed(source, target)
    assert again.outfile.read_bytes() == convert(source, tmp_path / "whole.gguf").outfile.read_bytes()


def test_a_bad_number_is_found_again(tiny: MakeTiny, tmp_path: Path) -> None:
    source, target = tiny(), tmp_path / "x.gguf"
    with (source / "model.safetensors").open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"\xc0\x7f")
    for _ in range(2):
        with pytest.raises(BadCheckpoint, match="not finite"):
            convert(source, target, resume=True)
    assert not target.exists()
    with pytest.raises(BadCheckpoint, match="not finite"):
        convert(source, target)
    assert list(tmp_path.glob(".x*")) == []


def test_two_at_once_do_not_write_the_same_file(tmp_path: Path) -> None:
    target = tmp_path / "x.gguf"
    with new_files([(target, 10)], force=False) as files:
        files[0].write_at(memoryview(b"0123456789"), 0)
        with (
            pytest.raises(BadOutput, match=r"Another process is writing .*x\.gguf"),
            new_files([(target, 10)], force=False, keep=True),
        ):
            pass
    assert target.read_bytes() == b"0123456789"


@pytest.mark.parametrize("size", [0, 1, 7, 4095, 4096, 4097, 10_000])
def test_the_checksum_sees_any_byte(size: int) -> None:
    data = bytearray(os.urandom(size))
    before = journal.checksum(memoryview(data))
    for place in {0, size // 2, size - 1} & set(range(size)):
        data[place] ^= 1
        assert journal.checksum(memoryview(data)) != before
        data[place] ^= 1
    assert journal.checksum(memoryview(data)) == before


@pytest.mark.slow
def test_kill_9_at_any_moment(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(layers=4, hidden=512, ffn=2048, heads=8, kv_heads=4)
    whole = convert(source, tmp_path / "whole.gguf", type="IQ4_XS").outfile.read_bytes()
    target = tmp_path / "out" / "x.gguf"
    target.parent.mkdir()
    code = (
        "import sys, localllm.convert.slabs as slabs; slabs.slabs.__defaults__ = (20_000,)\n"
        "from localllm.cli.main import main; sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "convert", str(source), "--outfile", str(target), "--type", "IQ4_XS"]
    before = 1
    for step in range(1, 30):
        with subprocess.Popen([*command, "--resume"], stderr=subprocess.PIPE, text=True) as child:
            while child.poll() is None and _lines(journal_of(target)) < before + 10 * step:
                time.sleep(0.001)
            child.send_signal(signal.SIGKILL)
            _, err = child.communicate()
        if child.returncode == 0:
            break
        assert not target.exists()
        assert step == 1 or "going on with an interrupted conversion" in err
        before = _lines(journal_of(target))
    assert step > 3
    assert target.read_bytes() == whole
    assert [path.name for path in target.parent.iterdir()] == ["x.gguf"]


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_when_asked(tiny: MakeTiny, tmp_path: Path) -> None:
    source, target = tiny(layers=4, hidden=512, ffn=2048, heads=8, kv_heads=4), tmp_path / "x.gguf"
    command = [sys.executable, "-m", "localllm", "convert", str(source), "--outfile", str(target), "--type", "IQ4_XS"]
    with subprocess.Popen([*command, "--resume"], stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None and _lines(journal_of(target)) < 3:
            time.sleep(0.001)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "--resume goes on" in err
    done = subprocess.run([*command, "--resume", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "going on with an interrupted conversion" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["outfile"] == str(target)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        {"slab": 5},
        {"slab": [0, "x"], "checksum": 1, "look": None},
        {"slab": [0, [1]], "checksum": 1, "look": None},
        {"slab": [0, 4096], "checksum": None, "look": None},
        {"slab": [0, 4096], "checksum": 1, "look": [[1, 2], 3]},
        {"slab": [0, 4096], "checksum": 1, "look": [["a", 1.0, 1.0, 1.0], 0, 1, 2]},
    ],
)
def test_a_damaged_journal_is_told_and_all_begins_anew(tiny: MakeTiny, tmp_path: Path, line: dict[str, Any]) -> None:
    source, target = tiny(), tmp_path / "x.gguf"
    whole = convert(source, tmp_path / "whole.gguf").outfile.read_bytes()
    interrupt(source, target)
    with journal_of(target).open("a") as file:
        file.write(json.dumps(line) + "\n")
    result, said = resumed(source, target)
    assert said == [f"starting at the beginning: {journal_of(target)} is damaged"]
    assert result.outfile.read_bytes() == whole


def test_what_is_no_journal_at_all_is_none(tiny: MakeTiny, tmp_path: Path) -> None:
    target = tmp_path / "x.gguf"
    journal_of(target).write_text("[" * 100_000 + "\n")
    _, said = resumed(tiny(), target)
    assert said == ["starting at the beginning: nothing of it is done yet"]


@pytest.mark.parametrize("name", ["open", "ftruncate"])
def test_a_signal_while_the_file_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real, opened = getattr(os, name), list[Any]()

    def interrupted(*args: object) -> None:
        opened.append(real(*args))
        raise KeyboardInterrupt

    target = tmp_path / "x.gguf"
    with monkeypatch.context() as patched:
        patched.setattr(os, name, interrupted)
        with pytest.raises(KeyboardInterrupt), new_files([(target, 10)], force=False):
            pass
    assert list(tmp_path.iterdir()) == []
    if name == "open":
        os.close(opened[0])


def test_a_signal_leaves_what_another_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = fcntl.flock, [KeyboardInterrupt]

    def interrupted(file: int, how: int) -> None:
        if left:
            raise left.pop()
        real(file, how)

    target = tmp_path / "x.gguf"
    with new_files([(target, 10)], force=False):
        with monkeypatch.context() as patched:
            patched.setattr(fcntl, "flock", interrupted)
            with pytest.raises(KeyboardInterrupt), new_files([(target, 10)], force=False):
                pass
        assert part_of(target).exists()
