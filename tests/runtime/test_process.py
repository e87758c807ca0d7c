"""The engine in a child process: the same answers, and a death that takes nothing along."""

from __future__ import annotations

import gc
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from localllm import paths
from localllm.errors import Cancelled, ContextFull, DoesNotFit, EngineDied, ModelNotFound, UnsupportedModel
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.process import ModelProcess
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import Message
from tests.runtime.conftest import GREEDY

pytestmark = pytest.mark.slow


@pytest.fixture
def remote(smollm2: Path) -> Iterator[ModelProcess]:
    with ModelProcess.load(smollm2, Options(n_ctx=1024)) as model:
        yield model


def test_it_says_the_same_as_in_process(remote: ModelProcess, model: Model) -> None:
    theirs, ours = remote.chat(sampling=GREEDY, max_tokens=24), model.chat(sampling=GREEDY, max_tokens=24)
    for question in ("Name the capital of France.", "And of Germany?"):
        assert theirs.ask(question) == ours.ask(question)
        assert theirs.stats is not None
        assert ours.stats is not None
        assert theirs.stats.cached_tokens == ours.stats.cached_tokens
        assert theirs.stats.prompt_tokens == ours.stats.prompt_tokens
    assert remote.info == model.info
    assert remote.context_used() == model.context_used()
    assert "".join(remote.complete("The capital of France is", sampling=GREEDY, max_tokens=5)).startswith(" Paris")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what a process has mapped")
def test_a_reply_that_is_not_greedy_takes_no_memory_for_numpy_and_openssl(remote: ModelProcess) -> None:
    def mapped() -> str:
        return Path(f"/proc/{remote.pid}/maps").read_text()

    assert "".join(remote.chat(max_tokens=3).stream("Hi"))
    assert not {part for part in ("numpy", "libcrypto", "_hashlib") if part in mapped()}
    assert remote.logits([1, 2]).shape[0] == 2
    assert "numpy" in mapped()


def test_what_is_asked_of_the_sampling_crosses_both_ways(remote: ModelProcess, model: Model) -> None:
    asked = Sampling(temperature=0, stop=(" Germany",), logprobs=2, logit_bias=((" Paris", -5.0),))
    theirs = remote.complete("The capital of France is", sampling=asked, max_tokens=8)
    ours = model.complete("The capital of France is", sampling=asked, max_tokens=8)
    assert "".join(theirs) == "".join(ours)
    assert theirs.logprobs == ours.logprobs
    assert theirs.sampling.stop == (" Germany",)


def test_pieces_that_are_gathered_say_the_same(smollm2: Path, model: Model) -> None:
    asked = Sampling(temperature=0, logprobs=1)
    ours = model.complete("The capital of France is", sampling=asked, max_tokens=24)
    pieces = list(ours)
    with ModelProcess.load(smollm2, Options(n_ctx=1024), gather_s=3600) as remote:
        theirs = remote.complete("The capital of France is", sampling=asked, max_tokens=24)
        assert next(theirs) == pieces[0]
        assert theirs.pieces == 1
        assert list(theirs) == ["".join(pieces[1:])]
        assert theirs.pieces == ours.pieces == 24
        assert theirs.logprobs == ours.logprobs
        cut = remote.complete("The capital of France is", sampling=asked)
        next(cut)
        cut.cancel()
        list(cut)
        assert cut.stats is not None
        assert cut.stats.stop_reason == "cancelled"


def test_what_only_reads_gives_the_same(remote: ModelProcess, model: Model) -> None:
    tokens = model.tokenize("The capital of France is")
    assert remote.tokenize("The capital of France is") == tokens
    np.testing.assert_allclose(remote.logits(tokens), model.logits(tokens), atol=1e-4)
    texts = ["a text", "another"]
    np.testing.assert_allclose(remote.embed(texts, pooling="mean"), model.embed(texts, pooling="mean"), atol=1e-5)
    with pytest.raises(UnsupportedModel, match="is no reranker"):
        remote.rerank("a", ["b"])
    with pytest.raises(UnsupportedModel, match="fill in the middle"):
        list(remote.fill("a", "b"))
    with pytest.raises(ValueError, match="token -1 is not in"):
        remote.logits([-1])
    with pytest.raises(TypeError, match="a list of texts"):
        remote.embed("text", pooling="mean")
    assert remote.chat(sampling=GREEDY, max_tokens=4).ask("Hello")


def test_memory_is_the_childs(remote: ModelProcess) -> None:
    sample = remote.memory()
    assert sample.kv_allocated == sample.devices[-1].kv
    assert sample.kv_used == 0
    assert sample.weights_mapped > 90_000_000
    assert abs(sample.process - psutil.Process(remote.pid).memory_info().rss) < 64 << 20
    remote.chat(sampling=GREEDY, max_tokens=8).ask("Hello")
    assert remote.memory().kv_used > 0


def test_memory_is_told_while_a_reply_is_made(remote: ModelProcess) -> None:
    reply = remote.reply([Message("user", "Tell me a long story about the sea.")], sampling=GREEDY)
    next(reply)
    assert remote.memory().compute > 0
    reply.close()
    assert reply.stats is not None
    assert reply.stats.stop_reason in ("cancelled", "end")


def test_errors_cross_as_themselves(remote: ModelProcess) -> None:
    with pytest.raises(ContextFull, match="the context holds 1,024") as caught:
        remote.chat().ask("word " * 3000)
    assert "--ctx" in caught.value.hint
    with pytest.raises(ValueError, match="' unfortunately'"):
        list(remote.complete("Hi", sampling=Sampling(logit_bias=((" unfortunately not", 1.0),))))
    assert remote.chat(sampling=GREEDY, max_tokens=4).ask("Hello")


def test_progress_and_cancel_in_prefill(remote: ModelProcess) -> None:
    reply = remote.reply([Message("user", "word and another " * 280)], sampling=GREEDY)

    def stop() -> None:
        while reply.progress is None:
            time.sleep(0.001)
        reply.cancel()

    watcher = threading.Thread(target=stop)
    watcher.start()
    assert len("".join(reply)) < 100
    watcher.join()
    assert reply.progress is not None
    assert reply.stats is not None
    assert reply.stats.stop_reason == "cancelled"


def test_a_cancel_before_the_start_holds(remote: ModelProcess) -> None:
    reply = remote.reply([Message("user", "Hello")])
    reply.cancel()
    assert list(reply) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_death_keeps_the_conversation(remote: ModelProcess, number: signal.Signals) -> None:
    chat = remote.chat(sampling=GREEDY)
    with pytest.raises(EngineDied, match=number.name) as caught:  # noqa: PT012 (the death must come in the middle)
        for count, _ in enumerate(chat.stream("Tell me a very long story about the sea.")):
            if count == 3:
                os.kill(remote.pid, number)
    assert "conversation is safe" in caught.value.hint
    assert chat.messages[-1].role == "assistant"
    assert chat.messages[-1].content
    with pytest.raises(EngineDied):
        chat.ask("Are you there?")
    with pytest.raises(EngineDied):
        remote.memory()


def test_the_death_of_an_engine_that_idles_is_told_at_once_and_its_closing_is_not(smollm2: Path) -> None:
    told: queue.Queue[EngineDied] = queue.Queue()
    with ModelProcess.load(smollm2, Options(n_ctx=256)) as model:
        model.when_lost(told.put)
    model.when_lost(told.put)
    assert told.empty()
    with ModelProcess.load(smollm2, Options(n_ctx=256)) as model:
        model.when_lost(told.put)
        os.kill(model.pid, signal.SIGKILL)
        assert "SIGKILL" in told.get(timeout=10).message
        model.when_lost(told.put)
        assert "SIGKILL" in told.get(timeout=10).message, "who asks later is told, too"


def test_closing_ends_the_process_and_a_running_reply(remote: ModelProcess) -> None:
    reply = remote.reply([Message("user", "Tell me a very long story.")], sampling=GREEDY)
    next(reply)
    remote.close()
    remote.close()
    assert not psutil.pid_exists(remote.pid)
    with pytest.raises(EngineDied):
        list(remote.reply([Message("user", "Hello")]))


def test_load_errors_come_out_as_themselves(smollm2: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        ModelProcess.load(tmp_path / "none.gguf")
    with pytest.raises(DoesNotFit):
        ModelProcess.load(smollm2, Options(n_ctx=2_000_000_000))


def test_a_load_shows_progress_and_can_be_given_up(smollm2: Path) -> None:
    seen: list[float] = []
    ModelProcess.load(smollm2, Options(n_ctx=256), progress=seen.append).close()
    assert seen == sorted(seen)
    assert seen[-1] == 1
    with pytest.raises(Cancelled):
        ModelProcess.load(smollm2, Options(n_ctx=256), cancelled=lambda: True)


def test_the_engine_ends_when_its_parent_is_killed(smollm2: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from localllm.runtime.process import ModelProcess;"
        "model = ModelProcess.load(Path(sys.argv[1])); print(model.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(smollm2)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        engine = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert engine.wait(timeout=10) in (None, 0)


def test_the_log_of_llama_cpp_goes_to_a_file(remote: ModelProcess) -> None:
    assert "llama_model_loader" in paths.log_file().read_text()


def test_a_closed_engine_says_it_was_closed(remote: ModelProcess) -> None:
    queued = [remote.reply([Message("user", "Tell me a very long story.")], sampling=GREEDY) for _ in range(2)]
    next(queued[0])
    waiting = threading.Thread(target=lambda: list(_swallowed(queued[1])))
    waiting.start()
    time.sleep(0.1)
    remote.close()
    waiting.join(timeout=20)
    assert remote._engine.returncode == 0
    with pytest.raises(EngineDied, match="closed"):
        remote.memory()


def _swallowed(reply: Iterator[str]) -> Iterator[str]:
    try:
        yield from reply
    except EngineDied:
        return


def test_replies_are_made_at_once(remote: ModelProcess) -> None:
    """One thread reads them in turns: each goes on while the other is read."""
    story = remote.reply([Message("user", "Tell me a long story about the sea.")], sampling=GREEDY)
    begun = next(story)
    france = remote.reply([Message("user", "Name the capital of France.")], sampling=GREEDY, max_tokens=24)
    assert "Paris" in "".join(france)
    assert next(story)
    story.cancel()
    rest = "".join(story)
    assert begun + rest != story.text  # of the story a piece was read in between
    assert story.text.startswith(begun)
    assert story.text.endswith(rest)
    assert story.stats is not None
    assert story.stats.stop_reason == "cancelled"


def test_a_reply_that_is_dropped_makes_room(remote: ModelProcess) -> None:
    reply = remote.reply([Message("user", "Tell me a very long story.")], sampling=GREEDY)
    next(reply)
    del reply
    assert remote.chat(sampling=GREEDY, max_tokens=4).ask("Hello")


def test_a_late_answer_about_memory_is_not_taken_for_a_new_one(
    remote: ModelProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localllm.runtime.engine_process._ANSWER_SECONDS", 0.2)
    os.kill(remote.pid, signal.SIGSTOP)
    with pytest.raises(EngineDied, match="no answer"):
        remote.memory()
    os.kill(remote.pid, signal.SIGCONT)
    monkeypatch.setattr("localllm.runtime.engine_process._ANSWER_SECONDS", 20)
    remote.chat(sampling=GREEDY, max_tokens=8).ask("Hello")
    assert remote.memory().kv_used > 0


def test_the_current_folder_gives_no_modules(smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "psutil.py").write_text("raise SystemExit('planted')")
    monkeypatch.chdir(tmp_path)
    with ModelProcess.load(smollm2, Options(n_ctx=256)) as model:
        assert model.info.n_ctx == 256


def test_what_others_print_at_the_start_is_not_for_us(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('hello from elsewhere', flush=True)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ModelProcess.load(smollm2, Options(n_ctx=256)) as model:
        assert model.chat(sampling=GREEDY, max_tokens=4).ask("Hello")


def test_a_process_that_nobody_holds_ends(smollm2: Path) -> None:
    model = ModelProcess.load(smollm2, Options(n_ctx=256))
    engine = psutil.Process(model.pid)
    reply = model.complete("The capital of France is", sampling=GREEDY, max_tokens=1)
    del model
    gc.collect()
    assert "".join(reply) == " Paris"  # who waits for an answer holds it
    del reply
    gc.collect()
    assert not engine.is_running()
