"""What was tuned: used where a setting was left open, for the same file, machine and build only, and undone."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from localllm import paths
from localllm.errors import BadOutput
from localllm.gguf_file import read_header
from localllm.native import lib, machine
from localllm.runtime import tuned
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.plan import make_plan, plan_quickly
from localllm.runtime.tuned import Choice
from localllm.runtime.types import needs

CHOICE = Choice(threads=1, flash_attention=False, kv_type="q8_0/f16", n_ubatch=128)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """What stands for a model: only its place, size and time count."""
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


def settled(path: Path, options: Options | None = None) -> Choice | tuple[object, ...]:
    found, _ = tuned.settle(path, options or Options())
    return found.threads, found.flash_attention, found.kv_type, found.n_ubatch


UNTUNED = (machine.usable_threads(), None, "f16", 512)
TUNED = (1, False, "q8_0/f16", 128)


def test_nothing_is_open_without_a_choice(gguf: Path) -> None:
    assert tuned.settle(gguf, Options())[1] == ()
    assert settled(gguf) == UNTUNED


def test_a_choice_fills_what_is_open_and_says_so(gguf: Path) -> None:
    tuned.store(gguf, Options(), CHOICE, {})
    _, (note,) = tuned.settle(gguf, Options())
    assert settled(gguf) == TUNED
    assert str(CHOICE) in note
    assert "--no-tuned" in note
    assert settled(gguf, Options(tuned=False)) == UNTUNED


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (Options(threads=2), (2, False, "q8_0/f16", 128)),
        (Options(flash_attention=True), (1, True, "q8_0/f16", 128)),
        (Options(kv_type="f16"), (1, False, "f16", 128)),
        (Options(kv_type="q8_0"), (1, None, "q8_0", 128)),  # V in q8_0 needs flash attention
        (Options(n_ubatch=64), (1, False, "q8_0/f16", 64)),
        (Options(n_batch=32), (1, False, "q8_0/f16", 32)),
    ],
)
def test_what_was_asked_for_stays(gguf: Path, asked: Options, wanted: tuple[object, ...]) -> None:
    tuned.store(gguf, Options(), CHOICE, {})
    assert settled(gguf, asked) == wanted


def test_drafting_is_tuned_unless_asked_for(gguf: Path) -> None:
    tuned.store(gguf, Options(), replace(CHOICE, draft="ngram"), {})
    drafts = [
        tuned.settle(gguf, options)[0].draft for options in (Options(), Options(draft="off"), Options(tuned=False))
    ]
    assert drafts == ["ngram", "off", ""]


def test_a_tuned_type_gives_way_to_attention_that_cannot_have_it(gguf: Path) -> None:
    tuned.store(gguf, Options(), Choice(1, True, "q8_0", 128), {})
    assert settled(gguf, Options(flash_attention=False)) == (1, False, "f16", 128)


def test_there_is_no_note_where_everything_was_asked_for(gguf: Path) -> None:
    tuned.store(gguf, Options(), CHOICE, {})
    assert tuned.settle(gguf, Options(threads=2, flash_attention=True, kv_type="f16", n_ubatch=64))[1] == ()


def test_another_file_machine_or_build_was_not_measured(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned.store(gguf, Options(), CHOICE, {})
    with monkeypatch.context() as changed:
        changed.setattr(lib, "build", lambda: "another llama.cpp")
        assert settled(gguf) == UNTUNED
    with monkeypatch.context() as changed:
        changed.setattr(machine, "limits", lambda: machine.Limits(64, 64, None, None))
        assert tuned.find(gguf, Options()) is None
    assert tuned.find(gguf, Options(workers=("127.0.0.1:50052",))) is None
    assert settled(gguf) == TUNED
    gguf.write_bytes(b"GGUF of another model")
    assert settled(gguf) == UNTUNED


def test_a_choice_replaces_that_of_an_earlier_state_of_the_file(gguf: Path) -> None:
    first = tuned.store(gguf, Options(), CHOICE, {})
    os.utime(gguf, (1, 1))
    second = tuned.store(gguf, Options(), CHOICE, {})
    assert first != second
    assert list(paths.tuned_dir().iterdir()) == [second]


def test_it_is_forgotten(gguf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    shutil.copy(gguf, other)
    tuned.store(gguf, Options(), CHOICE, {})
    tuned.store(other, Options(), CHOICE, {})
    assert tuned.forget(gguf) == 1
    assert tuned.forget(gguf) == 0
    assert settled(gguf) == UNTUNED
    assert settled(other) == TUNED


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"choice": null}',
        '{"choice": {"threads": 1}}',
        *(
            json.dumps({"choice": {"threads": 1, "flash_attention": True, "kv_type": "f16", "n_ubatch": 64, **wrong}})
            for wrong in (
                {"threads": 0},
                {"threads": 100_000},
                {"threads": "1"},
                {"flash_attention": "on"},
                {"kv_type": "auto"},
                {"kv_type": "f15"},
                {"n_ubatch": 0},
                {"more": 1},
                {"flash_attention": False, "kv_type": "q8_0"},
            )
        ),
    ],
)
def test_a_damaged_file_is_as_good_as_none(gguf: Path, content: str) -> None:
    tuned.store(gguf, Options(), CHOICE, {}).write_text(content)
    assert settled(gguf) == UNTUNED


def test_a_folder_that_cannot_be_written(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("LOCALLLM_HOME", str(tmp_path / "home"))
    with pytest.raises(BadOutput, match="cannot be kept"):
        tuned.store(gguf, Options(), CHOICE, {})


@pytest.mark.slow
def test_the_plan_of_a_tuned_load_is_exact(smollm2: Path) -> None:
    tuned.store(smollm2, Options(), CHOICE, {})
    plan = make_plan(smollm2, Options(n_ctx=1024))
    (planned,) = plan.devices
    with Model.load(smollm2, Options(n_ctx=1024)) as model:
        (real,) = model.plan.devices
        assert any("Tuned" in note for note in model.notes)
        assert model.plan.options.flash_attention is False
        assert model.info.threads == 1
    assert (planned.weights, planned.kv, planned.compute) == (real.weights, real.kv, real.compute)
    assert planned.kv == 1024 * 30 * 3 * 64 * (34 / 32 + 2)


@pytest.mark.slow
def test_speed_is_not_worth_a_part_of_the_context(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = make_plan(smollm2)
    tuned.store(smollm2, Options(), Choice(1, False, "f32", 512), {})
    monkeypatch.setattr(machine, "system_memory", lambda: (needs(usual.devices[0]), 8 << 30))
    for plan in (make_plan(smollm2), plan_quickly(read_header(smollm2), Options())[1]()):
        assert plan.n_ctx == usual.n_ctx
        assert plan.options.kv_type == "f16"
        assert any("What was tuned needs more memory" in note for note in plan.notes)
