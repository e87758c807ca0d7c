"""When events leave the child process."""

from __future__ import annotations

import io
import itertools
import threading

import pytest

from localllm.runtime.outlet import GATHER_S, Outlet
from localllm.runtime.protocol import Failed, Piece, decode_event
from localllm.runtime.types import TokenLogprob


class Pipe(io.BytesIO):
    """Counts what has gone out, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[int] = []
        self.flushed = threading.Semaphore(0)

    def flush(self) -> None:
        self.writes.append(len(self.getvalue().splitlines()) - sum(self.writes))
        self.flushed.release()


def sent(times: list[float], *, end: bool) -> Pipe:
    """Pieces sent at these times, and then perhaps what ends the reply."""
    clock, pipe = iter(times), Pipe()
    outlet = Outlet(pipe, lambda: next(clock), late=3600)
    for number in range(len(times)):
        outlet.send(Piece(1, str(number)))
    if end:
        outlet.send(Failed(1, "BadInput", "no", ""))
    return pipe


def test_slow_pieces_go_at_once() -> None:
    assert sent([number * 2 * GATHER_S for number in range(5)], end=False).writes == [1] * 5


def test_the_first_piece_goes_at_once_and_fast_ones_together() -> None:
    assert sent([number * GATHER_S / 3.9 for number in range(9)], end=False).writes == [1, 4, 4]


def test_what_ends_a_reply_takes_all_pieces_along_in_order() -> None:
    pipe = sent([0.0, 0.001, 0.002], end=True)
    assert pipe.writes == [1, 3]
    events = [decode_event(line) for line in pipe.getvalue().splitlines()]
    assert [event.text for event in events if isinstance(event, Piece)] == ["0", "1", "2"]
    assert isinstance(events[-1], Failed)


def test_a_piece_that_nothing_follows_goes_by_itself() -> None:
    pipe = Pipe()
    outlet = Outlet(pipe, lambda: 0.0, late=0.001)
    for number in range(2):  # by two replies, each of which waits for its next token
        outlet.send(Piece(number, "word"))
        assert pipe.flushed.acquire(timeout=20)
    assert pipe.writes == [1, 1]
    outlet.send(Piece(0, "more"))
    assert pipe.flushed.acquire(timeout=20)
    assert pipe.writes == [1, 1, 1]


def test_a_reader_who_is_gone_is_met_by_the_next_event() -> None:
    pipe = Pipe()
    outlet = Outlet(pipe, lambda: 0.0, late=0.001)
    for _ in range(2):
        outlet.send(Piece(1, "word"))
        assert pipe.flushed.acquire(timeout=20)
    pipe.flush = gone  # type: ignore[method-assign]
    outlet.send(Piece(1, "word"))
    with pytest.raises(BrokenPipeError):
        outlet.send(Failed(1, "BadInput", "no", ""))


def told(pipe: Pipe) -> list[tuple[int, str, int]]:
    """The pieces that have gone out: of which request, their text, and of how many they were made."""
    events = [decode_event(line) for line in pipe.getvalue().splitlines()]
    return [(event.request, event.text, event.count) for event in events if isinstance(event, Piece)]


def test_pieces_that_are_gathered_become_one_of_each_reply() -> None:
    clock, pipe = itertools.count(0, 0.05), Pipe()
    outlet = Outlet(pipe, lambda: next(clock), late=3600)
    outlet.send(Piece(1, "a"))
    for text in "bcdefg":
        outlet.send(Piece(1, text, (token(text),)), 0.18)
        outlet.send(Piece(2, text.upper()), 0.18)
    outlet.send(Failed(1, "BadInput", "no", ""))
    assert told(pipe) == [
        (1, "a", 1),
        (1, "bc", 2),
        (2, "BC", 2),
        (1, "de", 2),
        (2, "DE", 2),
        (1, "fg", 2),
        (2, "FG", 2),
    ]
    events = [decode_event(line) for line in pipe.getvalue().splitlines()]
    assert [event.logprobs for event in events if isinstance(event, Piece)][1] == (token("b"), token("c"))
    assert isinstance(events[-1], Failed)


def test_what_is_gathered_and_nothing_follows_goes_by_itself() -> None:
    pipe = Pipe()
    outlet = Outlet(pipe, lambda: 0.0, late=0.001)
    outlet.send(Piece(1, "a"))
    outlet.send(Piece(1, "b"), 0.05)
    outlet.send(Piece(1, "c"), 0.05)
    while told(pipe)[1:] != [(1, "bc", 2)]:
        assert pipe.flushed.acquire(timeout=20)


def token(text: str) -> TokenLogprob:
    return TokenLogprob(ord(text), text, (ord(text),), -0.5, ())


def gone() -> None:
    raise BrokenPipeError
