"""The file appears whole or not at all: existing files, full disks, bad numbers, interruptions."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from localllm.convert import Settings, convert, prepare, preview
from localllm.convert.files import LocalFiles
from localllm.convert.outfiles import check_target
from localllm.convert.slabs import SLAB, slabs
from localllm.errors import BadCheckpoint, BadOutput
from tests.convert.helpers import MakeTiny


def _overwrite(folder: Path, name: str, at: int, bits: int) -> None:
    """Put one 16-bit number into a tensor of a one-file checkpoint."""
    from localllm.convert.checkpoint import open_checkpoint

    with open_checkpoint(folder) as checkpoint:
        offset = checkpoint.stored[name].offset + 2 * at
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(offset)
        file.write(np.uint16(bits).tobytes())


def test_slabs_cover_every_row_once_whatever_their_size(tiny: MakeTiny) -> None:
    with prepare(tiny(), "Q8_0") as prepared:
        for size in (1, 1000, 1 << 14, 1 << 30):
            covered: dict[str, int] = {}
            for slab in slabs(prepared._choices.tensors, prepared._choices.layouts, size):
                assert slab.start == covered.get(slab.tensor.name, 0)
                assert slab.start % slab.tensor.transform.granule == 0
                covered[slab.tensor.name] = slab.stop
            assert covered == {tensor.name: tensor.rows for tensor in prepared._choices.tensors}


@pytest.mark.slow
def test_many_threads_share_the_memory_of_a_few(tiny: MakeTiny) -> None:
    with prepare(tiny(vocab=40_000), "Q8_0") as prepared:
        tensors, layouts = prepared._choices.tensors, prepared._choices.layouts
        largest = {n: max(slab.count for slab in slabs(tensors, layouts, threads=n)) for n in (1, 2, 8, 32, 128)}
    assert largest[1] == largest[2] == largest[8] == SLAB
    assert 32 * largest[32] <= 8 * SLAB
    assert 128 * largest[128] <= 8 * SLAB


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_bytes_do_not_depend_on_threads_and_slabs(
    tiny: MakeTiny, tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny()
    reference = convert(source, tmp_path / "reference.gguf", threads=2).outfile.read_bytes()
    monkeypatch.setattr("localllm.convert.slabs.slabs.__defaults__", (3000 * threads,))
    assert convert(source, tmp_path / "other.gguf", threads=threads).outfile.read_bytes() == reference


@pytest.mark.slow
def test_progress_goes_to_the_end(tiny: MakeTiny, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = convert(tiny(), tmp_path / "x.gguf", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (result.preview.parameters, result.preview.parameters)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.slow
def test_an_existing_file_is_kept_without_force(tiny: MakeTiny, tmp_path: Path) -> None:
    target = tmp_path / "x.gguf"
    target.write_text("precious")
    with pytest.raises(BadOutput, match="exists already"):
        convert(tiny(), target)
    assert target.read_text() == "precious"
    convert(tiny("again"), target, force=True)
    assert target.read_bytes()[:4] == b"GGUF"


@pytest.mark.slow
def test_a_file_that_appears_meanwhile_is_kept(tiny: MakeTiny, tmp_path: Path) -> None:
    target = tmp_path / "x.gguf"

    def interfere(done: int, total: int) -> None:
        if done == total:
            target.write_text("precious")

    with pytest.raises(BadOutput, match="exists already"):
        convert(tiny(), target, progress=interfere)
    assert target.read_text() == "precious"
    assert list(tmp_path.glob(".*.part")) == []


def test_a_file_of_the_checkpoint_is_never_replaced(tiny: MakeTiny) -> None:
    source = tiny()
    before = (source / "model.safetensors").read_bytes()
    with pytest.raises(BadOutput, match="a file of the source itself"):
        convert(source, source / "model.safetensors", force=True)
    assert (source / "model.safetensors").read_bytes() == before


def test_no_other_input_is_replaced(tiny: MakeTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny()
    matrix = tmp_path / "m.gguf"
    matrix.write_text("precious")
    monkeypatch.setattr("localllm.convert.prepare", lambda *_, **__: pytest.fail("it looked at the source first"))
    settings = Settings("Q4_0", imatrix=matrix)
    with pytest.raises(BadOutput, match=r"m\.gguf is the importance matrix"):
        convert(source, matrix, settings=settings, force=True)
    # The file is written under another name first, and that may be an input, too.
    part = matrix.rename(tmp_path / ".x.gguf.part")
    with pytest.raises(BadOutput, match=r"\.x\.gguf\.part is the importance matrix"):
        convert(source, tmp_path / "x.gguf", settings=Settings("Q4_0", imatrix=part))
    linked = tmp_path / "linked.gguf"
    linked.symlink_to(source / "config.json")
    with pytest.raises(BadOutput, match="a file of the source itself"):
        convert(source, linked, force=True)
    with pytest.raises(BadOutput, match="a file of the source itself"):
        convert(LocalFiles(source), source / "tokenizer.json", force=True)


@pytest.mark.slow
def test_a_gguf_beside_the_checkpoint_is_replaced(tiny: MakeTiny) -> None:
    source = tiny()
    for _ in range(2):
        assert convert(source, source / "x.gguf", force=True).outfile == source / "x.gguf"


def test_a_device_is_no_output(tiny: MakeTiny, tmp_path: Path) -> None:
    link = tmp_path / "x.gguf"
    link.symlink_to("/dev/null")
    with pytest.raises(BadOutput, match="not a file that can be replaced"):
        convert(tiny(), link, force=True)


def test_a_folder_is_no_output(tiny: MakeTiny, tmp_path: Path) -> None:
    with pytest.raises(BadOutput, match="is a folder"):
        convert(tiny(), tmp_path)
    with pytest.raises(BadOutput, match="There is no folder"):
        convert(tiny("again"), tmp_path / "nowhere" / "x.gguf")


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadOutput, match="too few"):
        check_target(tmp_path / "x.gguf", 1 << 60, force=False)


def _convert_limited(source: Path, target: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """Convert in a process whose files may not grow beyond `limit`: to it the disk is full."""
    code = (
        "import sys; from localllm.convert import convert; from localllm.errors import BadOutput\n"
        "try: convert(sys.argv[1], sys.argv[2], type='F32')\n"
        "except BadOutput as error: sys.exit(f'BadOutput: {error}')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, source, target],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_file_that_cannot_grow_leaves_nothing_behind(tiny: MakeTiny, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    source = tiny()
    done = _convert_limited(source, out / "x.gguf", preview(source, "F32").bytes - 1)
    assert done.returncode == 1
    assert f"BadOutput: {out / 'x.gguf'} cannot be written: file too large. Nothing is left behind" in done.stderr
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_a_temporary_folder_that_cannot_be_written_is_said(tiny: MakeTiny, tmp_path: Path) -> None:
    done = _convert_limited(tiny(), tmp_path / "x.gguf", 1 << 20)
    assert "BadOutput: A temporary file in " in done.stderr
    assert "set TMPDIR" in done.stderr


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="no /dev/full")
def test_a_disk_that_fills_up_in_the_middle_leaves_nothing_behind(
    tiny: MakeTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    real, calls = os.pwrite, 0

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal calls
        calls += 1
        return real(descriptor, data, offset) if calls < 8 else os.write(full, data)

    monkeypatch.setattr(os, "pwrite", pwrite)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(BadOutput, match=r"no space left on device\. Nothing is left behind"):
        convert(tiny(), out / "x.gguf")
    os.close(full)
    assert list(out.iterdir()) == []


def test_ctrl_c_leaves_nothing_behind(tiny: MakeTiny, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def interrupt(done: int, total: int) -> None:
        assert list(out.glob(".x.gguf.part"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tiny(), out / "x.gguf", progress=interrupt)
    assert list(out.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("bits", [0x7FC0, 0x7F80, 0xFF80])
def test_a_weight_that_is_not_finite_is_named(tiny: MakeTiny, tmp_path: Path, bits: int) -> None:
    source = tiny()
    _overwrite(source, "model.layers.1.mlp.gate_proj.weight", 256 * 17 + 3, bits)
    with pytest.raises(
        BadCheckpoint, match=r"model\.layers\.1\.mlp\.gate_proj\.weight holds a number that is not finite"
    ):
        convert(source, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


def test_a_weight_too_large_for_f16_is_named(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    _overwrite(source, "lm_head.weight", 5, 0x4980)  # 2**20
    with pytest.raises(BadCheckpoint, match=r"lm_head\.weight holds numbers too large for F16.*\n.*--type BF16"):
        convert(source, tmp_path / "x.gguf", type="F16")
    convert(source, tmp_path / "x.gguf", type="BF16")


def test_a_shard_that_becomes_shorter_is_told(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    with prepare(source, "Q8_0") as prepared:
        with (source / "model.safetensors").open("r+b") as file:
            file.truncate(1 << 19)
        with pytest.raises(BadCheckpoint, match="became shorter while it was read"):
            prepared.write(tmp_path / "x.gguf")
    assert list(tmp_path.glob("*.gguf")) == []
