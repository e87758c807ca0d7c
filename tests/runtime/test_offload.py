"""Layers on another device, tested without a GPU: a worker in another process is one to llama.cpp."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import localllm
from localllm.cli.main import main
from localllm.errors import BadWorker, DoesNotFit, EngineDied
from localllm.native import rpc
from localllm.runtime import apart, remote_reply
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.process import ModelProcess
from localllm.runtime.types import DeviceMemory, Message
from tests.runtime.conftest import GREEDY
from tests.workers import worker

pytestmark = pytest.mark.slow

QUESTION = [Message("user", "Name the capital of France.")]
BEGINNING = "Once upon a time, there was"
STORY = "Tell me a very long story about the sea."


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with worker() as running:
        yield running.endpoint


def _sizes(parts: tuple[DeviceMemory, ...]) -> list[dict[str, object]]:
    wanted = ("name", "kind", "worker", "weights", "kv", "compute", "layers")
    return [{name: asdict(part)[name] for name in wanted} for part in parts]


@pytest.mark.parametrize(("layers", "expected"), [(0, 0), (12, 12), (None, 31)])
def test_layers_go_where_the_plan_says(
    endpoint: str, smollm2: Path, model: Model, layers: int | None, expected: int
) -> None:
    options = Options(n_ctx=512, gpu_layers=layers, mmap=False, workers=(endpoint,))
    plan = apart.plan(smollm2, options)
    assert plan.exact
    assert plan.gpu_layers == expected
    with ModelProcess.load(smollm2, options) as remote:
        assert "".join(remote.reply(QUESTION, sampling=GREEDY)) == "".join(model.reply(QUESTION, sampling=GREEDY))
        assert _sizes(remote.memory().devices) == _sizes(plan.devices)
    lent, cpu = plan.devices
    assert (lent.kind, lent.worker) == ("worker", endpoint)
    assert (lent.layers, cpu.layers) == (expected, 31 - expected)
    assert (lent.kv > 0) == (lent.weights > 0) == (lent.compute > 0) == (expected > 0)


def test_the_table_names_the_workers(endpoint: str, smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(smollm2), "--ctx", "512", "--gpu-layers", "12", "--worker", endpoint]) == 0
    out = capsys.readouterr().out
    assert "12 layers offloaded" in out
    assert f"RPC0 is the worker at {endpoint}." in out
    assert next(line.split()[1] for line in out.splitlines() if line.startswith("RPC0 ")) == "12"
    plan = localllm.plan(smollm2, n_ctx=512, gpu_layers=12, workers=(endpoint,))
    assert [part.layers for part in plan.devices] == [12, 19]


def test_a_conversation_outlives_its_worker(smollm2: Path) -> None:
    with worker() as running, ModelProcess.load(smollm2, Options(n_ctx=512, workers=(running.endpoint,))) as remote:
        chat = remote.chat(sampling=GREEDY)
        with pytest.raises(EngineDied, match=f"{running.endpoint} went away") as caught:  # noqa: PT012 (in the middle)
            for count, _ in enumerate(chat.stream(STORY)):
                if count == 3:
                    running.process.kill()
        assert "--retry-locally" in caught.value.hint
        assert [message.role for message in chat.messages] == ["user", "assistant"]
        assert chat.messages[-1].content
        with pytest.raises(EngineDied):
            chat.ask("Are you there?")


@pytest.mark.parametrize("raw", [False, True])
def test_a_reply_goes_on_without_its_worker_if_asked(smollm2: Path, model: Model, raw: bool) -> None:
    with worker() as running:
        options = Options(n_ctx=512, workers=(running.endpoint,), retry_locally=True)
        with ModelProcess.load(smollm2, options) as remote:
            before = remote.info.gpu_layers
            ask = {"sampling": GREEDY, "max_tokens": 40}
            theirs = remote.complete(BEGINNING, **ask) if raw else remote.reply([Message("user", STORY)], **ask)  # type: ignore[arg-type]
            text = ""
            for count, piece in enumerate(theirs):
                text += piece
                if count == 3:
                    running.process.kill()
            assert remote.info.gpu_layers == 0 < before
            assert "loaded again without workers" in remote.notes[-1]
            assert remote.memory().devices[-1].layers == 31
    ours = model.complete(BEGINNING, **ask) if raw else model.reply([Message("user", STORY)], **ask)  # type: ignore[arg-type]
    assert text == theirs.text == "".join(ours)


def test_two_replies_go_on_after_one_death(smollm2: Path) -> None:
    with worker() as running:
        options = Options(n_ctx=512, workers=(running.endpoint,), retry_locally=True)
        with ModelProcess.load(smollm2, options) as remote:
            chats = [remote.chat(sampling=GREEDY, max_tokens=20) for _ in range(2)]
            streams = [chat.stream(STORY) for chat in chats]
            assert [next(stream) for stream in streams]
            running.process.kill()
            assert "".join(streams[0]) == "".join(streams[1])
            assert len(remote.notes) == 1
            assert remote.chat(sampling=GREEDY, max_tokens=4).ask("Hello")


def test_who_wants_to_hear_of_a_loss_hears_of_the_engine_that_took_the_place_of_one(smollm2: Path) -> None:
    told: queue.Queue[EngineDied] = queue.Queue()
    with worker() as running:
        options = Options(n_ctx=512, workers=(running.endpoint,), retry_locally=True)
        with ModelProcess.load(smollm2, options) as remote:
            remote.when_lost(told.put)
            running.process.kill()
            assert remote.chat(sampling=GREEDY, max_tokens=4).ask("Hello")
            assert told.empty(), "it is replaced, and not lost"
            os.kill(remote.pid, signal.SIGKILL)
            assert "SIGKILL" in told.get(timeout=10).message


def test_a_worker_that_dies_while_a_model_is_loaded_is_named(smollm2: Path) -> None:
    with worker() as running, pytest.raises(EngineDied, match=f"{running.endpoint} went away"):
        ModelProcess.load(
            smollm2,
            Options(n_ctx=512, mmap=False, workers=(running.endpoint,)),
            progress=lambda _fraction: running.process.kill(),
        )


def test_an_engine_that_dies_by_itself_is_no_workers_fault(endpoint: str, smollm2: Path) -> None:
    with ModelProcess.load(smollm2, Options(n_ctx=512, workers=(endpoint,))) as remote:
        reply = remote.reply([Message("user", STORY)], sampling=GREEDY)
        next(reply)
        os.kill(remote.pid, signal.SIGKILL)
        with pytest.raises(EngineDied, match="SIGKILL"):
            list(reply)


def test_a_reply_under_a_grammar_does_not_go_on_elsewhere(smollm2: Path) -> None:
    with worker() as running:
        options = Options(n_ctx=512, workers=(running.endpoint,), retry_locally=True)
        with ModelProcess.load(smollm2, options) as remote:
            sampling = replace(GREEDY, grammar='root ::= "a"{100}')
            reply = remote.reply([Message("user", STORY)], sampling=sampling)
            assert next(reply)
            running.process.kill()
            with pytest.raises(EngineDied, match="went away"):
                list(reply)


def test_a_worker_that_hangs_does_not_hold_who_cancels(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_reply, "CANCEL_SECONDS", 0.2)
    with worker() as running, ModelProcess.load(smollm2, Options(n_ctx=512, workers=(running.endpoint,))) as remote:
        reply = remote.reply([Message("user", STORY)], sampling=GREEDY)
        assert next(reply)
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)  # until the engine waits for it
        reply.cancel()
        with pytest.raises(EngineDied, match="went away"):
            list(reply)
        assert reply.text


def test_workers_are_for_child_processes(endpoint: str, smollm2: Path) -> None:
    options = Options(n_ctx=512, workers=(endpoint,))
    with pytest.raises(BadWorker, match="in its own process") as caught:
        Model.load(smollm2, options)
    assert "load_process" in caught.value.hint
    with apart.load(smollm2, options) as model:
        assert isinstance(model, ModelProcess)
    with apart.load(smollm2, Options(n_ctx=512)) as model:
        assert isinstance(model, Model)


def test_a_worker_that_is_not_there_is_an_error_at_once(
    smollm2: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"127.0.0.1:{server.getsockname()[1]}"
    for command in (["run", "--worker", nobody, str(smollm2), "Hi"], ["plan", "--worker", nobody, str(smollm2)]):
        assert main(command) == 1
        assert f"There is no worker at {nobody}" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["run", "--worker", "nonsense", str(smollm2), "Hi"])
    assert caught.value.code == 2
    assert "HOST:PORT" in capsys.readouterr().err


def test_a_worker_that_is_busy_says_so(endpoint: str, smollm2: Path) -> None:
    with ModelProcess.load(smollm2, Options(n_ctx=512, workers=(endpoint,))), pytest.raises(BadWorker) as caught:
        rpc.ask(endpoint, seconds=0.2)
    assert "one program at a time" in caught.value.hint


def test_one_worker_under_two_names_is_found_out(endpoint: str, smollm2: Path) -> None:
    other = endpoint.replace("127.0.0.1", "localhost")
    with pytest.raises(BadWorker, match="are the same worker"):
        apart.plan(smollm2, Options(n_ctx=512, workers=(endpoint, other)))


UNPLANNED = """
import sys
from pathlib import Path
from localllm.errors import DoesNotFit
from localllm.runtime import model, parts
from localllm.runtime.options import Options
parts.check_fits = lambda plan: None
try:
    model.Model(Path(sys.argv[1]), Options(n_ctx=512, gpu_layers=31, workers=(sys.argv[2],)), in_child=True)
except DoesNotFit as error:
    print(error.message)
"""


def test_a_worker_refuses_what_no_plan_prevented(smollm2: Path) -> None:
    with worker("--memory", "20MiB") as running:
        program = [sys.executable, "-c", UNPLANNED, str(smollm2), running.endpoint]
        done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert "failed to allocate RPC0" in done.stdout


def test_the_budget_of_a_worker_is_part_of_the_plan(
    smollm2: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with worker("--memory", "60MiB") as running:
        flags = ["--worker", running.endpoint, "--ctx", "512", str(smollm2)]
        assert main(["plan", "--json", *flags]) == 0
        plan = json.loads(capsys.readouterr().out)
        lent = plan["devices"][0]
        assert lent["total"] == 60 << 20
        assert 0 < lent["layers"] == plan["gpu_layers"] < 31
        assert plan["fits"]
        assert main(["run", "--temperature", "0", *flags, "Name the capital of France."]) == 0
        assert "Paris" in capsys.readouterr().out
        with pytest.raises(DoesNotFit, match="RPC0"):
            ModelProcess.load(smollm2, Options(n_ctx=512, gpu_layers=31, workers=(running.endpoint,)))
