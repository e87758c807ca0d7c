"""Messages between a program and its engine's process survive the trip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from localllm import errors
from localllm.runtime import protocol
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import (
    DeviceMemory,
    Forecast,
    Logprob,
    MemorySample,
    Message,
    ModelInfo,
    Plan,
    Progress,
    Stats,
    TokenLogprob,
)

STATS = Stats(10, 4, 3, 0.1, 60.0, 20.0, "end")
INFO = ModelInfo("n", Path("/m.gguf"), "llama", "Q4_1", 1, 2, 3, 4, 5, 6, 7, True)
PLAN = Plan(
    Path("/m.gguf"), Options(n_ctx=5), (DeviceMemory("CPU", "cpu", 1, 2, 3, 4, 5, 6),), exact=True, notes=("a", "b")
)
SAMPLE = MemorySample(1, None, 2, 3, 4, 5, 6, 7, (DeviceMemory("CPU", "cpu", 1, 2, 3, 4, 5, 6),))


@pytest.mark.parametrize(
    "command",
    [
        protocol.Load("/m.gguf", Options(n_ctx=5, gpu_layers=None)),
        protocol.Generate(3, (Message("user", 'a "b"\n\ud800 é 🙂'),), None, Sampling(seed=1), 7),
        protocol.Generate(4, (), "Hi", Sampling(samplers=("top_k",), logit_bias=((5, 1.0), (" a", -2.0))), 7),
        protocol.Load("/m.gguf", Options(lora=(("a.gguf", 0.5),))),
        protocol.Generate(5, (), None, Sampling(), 7, ("before", "behind")),
        protocol.Generate(6, (), "Hi", Sampling(), 0, anew=True, gather_s=0.2),
        protocol.Compute(6, "embed", {"texts": ["a"], "normalize": True, "pooling": None}),
        protocol.Foresee(7, (Message("user", "a"),)),
        protocol.MakePlan("/m.gguf", Options(n_ctx=5), 8),
        protocol.Cancel(3),
        protocol.AskMemory(),
    ],
)
def test_commands(command: protocol.Command) -> None:
    line = protocol.encode(command)
    assert line.count(b"\n") == 1
    assert protocol.decode_command(line) == command


@pytest.mark.parametrize(
    "event",
    [
        protocol.Loading(0.5),
        protocol.Loaded(INFO, PLAN),
        protocol.Planned(PLAN, 4),
        protocol.Foreseen(5, Forecast(10, 4, (3, 10))),
        protocol.Prefill(1, Progress(1, 2, 0)),
        protocol.Piece(1, "\n"),
        protocol.Piece(1, "a b", count=2),
        protocol.Piece(1, "a", (TokenLogprob(3, "a", (97,), -0.5, (Logprob(4, "b", (98,), -1.0),)),)),
        protocol.Finished(1, STATS, Sampling(temperature=0), 13),
        protocol.Memory(SAMPLE, 13),
        protocol.Computed(6, [1, 2, 3]),
        protocol.Computed(6, "AACAPw==", (1,)),
    ],
)
def test_events(event: protocol.Event) -> None:
    assert protocol.decode_event(protocol.encode(event)) == event


@pytest.mark.parametrize("name", sorted(errors.ERRORS))
def test_every_error_comes_out_as_itself(name: str) -> None:
    sent = errors.ERRORS[name]("It broke.", hint="Mend it.")
    event = protocol.decode_event(protocol.encode(protocol.failure(2, sent)))
    assert isinstance(event, protocol.Failed)
    received = protocol.as_error(event)
    assert type(received) is type(sent)
    assert str(received) == str(sent)


def test_an_unexpected_error_is_the_engines_death() -> None:
    received = protocol.as_error(protocol.failure(0, ZeroDivisionError("x")))
    assert isinstance(received, errors.EngineDied)
    assert "ZeroDivisionError: x" in received.message


@pytest.mark.parametrize("shape", [(2, 3), (0, 4), (5,)])
def test_numbers(shape: tuple[int, ...]) -> None:
    sent = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    event = protocol.decode_event(protocol.encode(protocol.computed(1, sent)))
    assert isinstance(event, protocol.Computed)
    received = protocol.as_array(event)
    assert received.dtype == np.float32
    np.testing.assert_array_equal(received, sent)


def test_a_mistake_of_the_programmer_stays_one() -> None:
    event = protocol.decode_event(protocol.encode(protocol.failure(2, ValueError("no such token"))))
    assert isinstance(event, protocol.Failed)
    received = protocol.as_error(event)
    assert type(received) is ValueError
    assert str(received) == "no such token"


def test_every_error_of_the_tree_has_a_name_and_a_place_in_its_picture() -> None:
    tree = errors.__doc__ or ""
    kinds = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LocalLLMError)
    }
    assert kinds == set(errors.ERRORS.values())
    assert all(kind.__name__ in tree for kind in kinds)
