"""What was computed of a conversation, on disk: found again, never trusted blindly, within its budget."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from array import array
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from localllm import paths
from localllm.runtime import snapshot_file
from localllm.runtime.disk import Disk
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.process import ModelProcess
from localllm.runtime.snapshot_file import Identity, KnownText
from localllm.runtime.snapshots import Snapshots
from localllm.runtime.types import Message
from tests.runtime.conftest import GREEDY

MINE = Identity("/models/one.gguf", "llama.cpp 1, 77 bytes", "f16")
STORY = "Remember this: " + " ".join(f"item {number} is a ship." for number in range(40))
DISK = 1 << 30


def tokens(count: int, start: int = 0) -> array[int]:
    return array("i", range(start, start + count))


def opened(folder: Path, identity: Identity = MINE, budget: int = DISK, *, whole: bool = False) -> Snapshots:
    return Snapshots(folder, identity, budget, whole=whole)


def put(folder: Path, held: array[int], size: int = 1000, identity: Identity = MINE, budget: int = DISK) -> Path:
    """Write one, and return its file."""
    before = set(folder.glob("*"))
    opened(folder, identity, budget).put(held, bytearray(os.urandom(size)))
    (path,) = set(folder.glob("*")) - before
    return path


def test_what_was_put_is_found_by_the_next_process(tmp_path: Path) -> None:
    state = bytearray(os.urandom(100_000))
    known = KnownText("the text, ünd more", tokens(205))
    Snapshots(tmp_path, MINE, DISK, whole=False, texts_of=lambda _: (known,)).put(tokens(200), state)
    found = opened(tmp_path)
    snapshot, spared = found.best(tokens(300))
    assert snapshot is not None
    assert spared == 200
    assert found.load(snapshot) == state
    assert list(found.texts()) == [known]


def test_the_last_token_of_a_prompt_is_not_spared(tmp_path: Path) -> None:
    put(tmp_path, tokens(200))
    assert opened(tmp_path).best(tokens(150))[1] == 149


def test_a_state_that_cannot_be_cut_is_for_prompts_that_go_on_where_it_ends(tmp_path: Path) -> None:
    put(tmp_path, tokens(200))
    assert opened(tmp_path, whole=True).best(tokens(150)) == (None, 0)
    assert opened(tmp_path, whole=True).best(tokens(201))[1] == 200


def test_one_that_only_begins_as_the_prompt_does_is_not_kept_for_it(tmp_path: Path) -> None:
    """It may be of a chat that was deleted, and shares a system prompt with those that are not."""
    path = put(tmp_path, tokens(400))
    for prompt, touched in ((tokens(200) + tokens(100, 900), False), (tokens(500), True)):
        os.utime(path, (1000, 1000))
        assert Disk(opened(tmp_path)).find(prompt, 0) is not None
        assert (path.stat().st_mtime > 1000) == touched


def test_they_are_for_nobody_else(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    opened(folder).put(tokens(200), bytearray(10))
    (path,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("where", [0, 5, 15, 40, 300, 900, 1500, -1])
def test_a_file_with_a_flipped_bit_is_ignored_and_removed(tmp_path: Path, where: int) -> None:
    path = put(tmp_path, tokens(200))
    data = bytearray(path.read_bytes())
    data[where] ^= 4
    path.write_bytes(data)
    found = opened(tmp_path)
    snapshot, _ = found.best(tokens(300))
    assert snapshot is None or found.load(snapshot) is None
    assert not path.exists()
    assert found.best(tokens(300)) == (None, 0)


def test_no_byte_of_a_file_may_be_missing(tmp_path: Path) -> None:
    path = put(tmp_path, tokens(130), size=64)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert opened(tmp_path).best(tokens(300)) == (None, 0), length
        assert not path.exists(), length


def test_a_file_that_is_gone_is_no_error(tmp_path: Path) -> None:
    path = put(tmp_path, tokens(200))
    found = opened(tmp_path)
    snapshot, _ = found.best(tokens(300))
    path.unlink()
    assert snapshot is not None
    assert found.load(snapshot) is None


def test_a_changed_model_file_makes_its_snapshots_stale(tmp_path: Path) -> None:
    stale = put(tmp_path, tokens(200))
    other = put(tmp_path, tokens(200), identity=Identity("/models/two.gguf", "other", "f16"))
    now = Identity(MINE.place, "llama.cpp 1, 78 bytes", MINE.setup)
    assert opened(tmp_path, now).best(tokens(300)) == (None, 0)
    assert not stale.exists()
    assert other.exists()


def test_another_setup_neither_uses_nor_removes_them(tmp_path: Path) -> None:
    path = put(tmp_path, tokens(200))
    assert opened(tmp_path, Identity(MINE.place, MINE.content, "q8_0")).best(tokens(300)) == (None, 0)
    assert path.exists()


def test_the_least_recently_used_give_way(tmp_path: Path) -> None:
    paths_ = [put(tmp_path, tokens(200, start=1000 * number), size=10_000) for number in range(3)]
    for age, path in enumerate(paths_):
        os.utime(path, (1000 - age, 1000 - age))
    found = opened(tmp_path, budget=35_000)
    snapshot, _ = found.best(tokens(300, start=2000))
    assert snapshot is not None
    assert found.load(snapshot) is not None
    found.used(snapshot)
    found.put(tokens(200, start=5000), bytearray(10_000))
    assert [path.exists() for path in paths_] == [True, False, True]


def test_what_is_larger_than_the_budget_pushes_nothing_out(tmp_path: Path) -> None:
    path = put(tmp_path, tokens(200))
    opened(tmp_path, budget=5000).put(tokens(200, start=1000), bytearray(6000))
    assert list(tmp_path.iterdir()) == [path]


def test_the_longer_one_replaces_what_it_began_with(tmp_path: Path) -> None:
    put(tmp_path, tokens(200))
    found = opened(tmp_path)
    found.put(tokens(250), bytearray(1000))
    found.put(tokens(220), bytearray(1000))
    assert len(list(tmp_path.iterdir())) == 1
    assert found.best(tokens(300))[1] == 250


def test_what_is_not_written_in_time_is_not_written(tmp_path: Path) -> None:
    opened(tmp_path).put(tokens(200), bytearray(1000), deadline=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_writing_is_given_up_when_it_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localllm.runtime.snapshots.time.monotonic", iter(range(0, 1 << 30, 5)).__next__)
    opened(tmp_path).put(tokens(200), bytearray(40 << 20), deadline=7)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_loses_the_snapshot_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = opened(tmp_path / "file")
    found.put(tokens(200), bytearray(1000))
    assert found.best(tokens(300)) == (None, 0)


def test_leftovers_and_strangers(tmp_path: Path) -> None:
    left, fresh, stranger = tmp_path / "a.99.part", tmp_path / "b.99.part", tmp_path / "notes.kv"
    for path in (left, fresh, stranger):
        path.write_text("x")
    os.utime(left, (1000, 1000))
    opened(tmp_path).put(tokens(200), bytearray(1000))
    assert not left.exists()
    assert fresh.exists()
    assert stranger.exists()


# Writes and reads states that follow from their tokens, of which some are the same in every process.
SHARING = """
import random, sys
from array import array
from pathlib import Path
from localllm.runtime.snapshot_file import Identity, KnownText
from localllm.runtime.snapshots import Snapshots

folder, budget, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(number)
mine = Identity("/models/one.gguf", "llama.cpp 1, 77 bytes", "f16")

def text(tokens):  # of another length in each process, so that the same state stands elsewhere in its file
    return (KnownText("x" * (number + 1), tokens),)

def state(tokens):
    return bytearray(random.Random(tokens[0]).randbytes(1000 * (2 + tokens[0] % 5)))

loaded = 0
print("ready", flush=True)
sys.stdin.readline()
for turn in range(300):
    if turn % 20 == 0:
        held = Snapshots(folder, mine, budget, whole=False, texts_of=text)
    tokens = array("i", range(1000 * chance.randrange(12), 1 << 30, 1)[:150])
    if chance.random() < 0.5:
        held.put(tokens, state(tokens))
    snapshot, spared = held.best(tokens)
    if snapshot is not None:
        found = held.load(snapshot)
        loaded += found is not None
        assert found is None or found == state(snapshot.tokens)
print(loaded, flush=True)
"""


@pytest.mark.slow
def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    budget = 20_000
    command = [sys.executable, "-c", SHARING, str(tmp_path), str(budget)]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen([*command, str(number)], text=True, stdin=pipe, stdout=pipe, stderr=pipe) for number in "01"
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    told = [process.communicate("go\n", timeout=60) for process in processes]
    assert [errors for _, errors in told] == ["", ""]
    assert all(int(loaded) > 50 for loaded, _ in told)
    files = list(tmp_path.iterdir())
    assert {path.suffix for path in files} == {".kv"}
    assert 0 < sum(path.stat().st_size for path in files) <= budget


def test_what_others_write_meanwhile_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = put(tmp_path, tokens(200), size=5000)
    os.utime(first, (1000, 1000))
    write = snapshot_file.write

    def meanwhile(file: IO[bytes], state: bytearray, deadline: float) -> bool:
        monkeypatch.undo()
        put(tmp_path, tokens(200, start=1000), size=5000)
        return write(file, state, deadline)

    monkeypatch.setattr(snapshot_file, "write", meanwhile)
    opened(tmp_path, budget=15_000).put(tokens(200, start=2000), bytearray(5000))
    assert not first.exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_one_that_another_process_wrote_anew_is_read_where_it_stands_now(tmp_path: Path) -> None:
    state = bytearray(os.urandom(1000))
    put(tmp_path, tokens(200))
    found = opened(tmp_path)
    known = KnownText("a text that makes the header longer", tokens(200))
    later = Snapshots(tmp_path / "other", MINE, DISK, whole=False, texts_of=lambda _: (known,))
    later.put(tokens(200), state)
    (path,) = (tmp_path / "other").iterdir()
    path.replace(tmp_path / path.name)
    snapshot, _ = found.best(tokens(300))
    assert snapshot is not None
    assert found.load(snapshot) == state


def ask(model: Model | ModelProcess, *said: Message) -> tuple[str, int]:
    """(answer, tokens that were not computed again)."""
    reply = model.reply(said, sampling=GREEDY, max_tokens=6)
    text = "".join(reply)
    assert reply.stats is not None
    return text, reply.stats.cached_tokens


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Model, ModelProcess])
def test_a_conversation_goes_on_where_it_was_in_another_process(
    smollm2: Path, kind: type[Model] | type[ModelProcess]
) -> None:
    options = Options(n_ctx=1024, kv_disk=DISK)
    question = Message("user", STORY)
    with kind.load(smollm2, options) as model:
        text, reused = ask(model, question)
        assert reused == 0
    with kind.load(smollm2, options) as model:
        again = (question, Message("assistant", text), Message("user", "Which one is first?"))
        _, reused = ask(model, *again)
    with Model.load(smollm2, options) as model:
        # Of the answer all but its last token, which nobody had to evaluate.
        assert reused >= len(model.tokenize(_rendered(STORY) + text)) - 1


@pytest.mark.slow
def test_an_answer_from_disk_is_the_answer_of_a_fresh_engine(smollm2: Path) -> None:
    question, options = Message("user", STORY), Options(n_ctx=1024, kv_disk=DISK)
    with Model.load(smollm2, options) as model:
        first, _ = ask(model, question)
    with Model.load(smollm2, options) as model:
        assert ask(model, question) == (first, len(model.tokenize(_rendered(STORY))) - 1)


@pytest.mark.slow
def test_what_was_computed_with_flash_attention_serves_whoever_chose_it(smollm2: Path) -> None:
    question, options = Message("user", STORY), Options(n_ctx=1024, kv_disk=DISK)
    with Model.load(smollm2, options) as model:
        ask(model, question)
    for chosen, wanted in ((True, True), (False, False), (None, True)):
        with Model.load(smollm2, replace(options, flash_attention=chosen)) as model:
            assert (ask(model, question)[1] > 0) is wanted


def _rendered(text: str) -> str:
    """The prompt as the template of SmolLM2 renders it, whose own system prompt comes first."""
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.slow
def test_what_does_not_fit_in_ram_is_found_on_disk(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=1024, sequences=1, kv_ram=0, kv_disk=DISK)) as model:
        first, _ = ask(model, Message("user", STORY))
        ask(model, Message("user", "Another thing. " * 20))
        again, reused = ask(model, Message("user", STORY))
        assert again == first
        assert reused > 200


@pytest.mark.slow
def test_a_model_file_that_changed_is_another_one(smollm2: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    shutil.copy(smollm2, copy)
    options = Options(n_ctx=1024, kv_disk=DISK)
    with Model.load(copy, options) as model:
        ask(model, Message("user", STORY))
    assert list(paths.snapshots_dir().glob("*.kv"))
    os.utime(copy, (1000, 1000))
    with Model.load(copy, options) as model:
        assert ask(model, Message("user", STORY))[1] == 0


@pytest.mark.slow
def test_a_few_words_are_not_worth_a_file(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=512, kv_disk=DISK)) as model:
        list(model.complete("One two three four", max_tokens=8))
    assert not paths.snapshots_dir().exists()
