"""Text is cut at stop strings and never inside a character, however the tokens cut it."""

from __future__ import annotations

import random

import pytest

from localllm.runtime.text import Text


def _said(parts: list[bytes], stops: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    text = Text(stops)
    pieces = []
    for part in parts:
        pieces.append(text.feed(part))
        if text.ended:
            return pieces, True
    return [*pieces, text.rest()], False


def test_characters_come_whole() -> None:
    assert _said([b"\xf0\x9f", b"\x99\x82 \xc3", b"\xa9"]) == (["", "\U0001f642 ", "é", ""], False)


def test_what_is_no_text_is_marked_and_what_is_incomplete_left_out() -> None:
    assert _said([b"a\xff", b"b\xf0\x9f"]) == (["a\ufffd", "b", ""], False)


def test_text_that_may_become_a_stop_string_is_held_back() -> None:
    assert _said([b"abc", b"d<", b"/s", b">x"], ("</s>",)) == (["abc", "d", "", ""], True)
    assert _said([b"d<", b"/s", b"t>"], ("</s>",)) == (["d", "", "</st>", ""], False)
    assert _said([b"d<", b"/s"], ("</s>",)) == (["d", "", "</s"], False)


def test_the_first_of_several_wins() -> None:
    assert _said([b"one two three"], ("three", "two")) == (["one "], True)
    assert _said([b"aab"], ("ab", "aab")) == ([""], True)


def test_a_stop_string_may_overlap_its_own_start() -> None:
    assert _said([b"aa", b"ab"], ("aab",)) == (["", "a"], True)


@pytest.mark.parametrize("seed", range(20))
def test_the_cut_of_the_tokens_makes_no_difference(seed: int) -> None:
    chance = random.Random(seed)
    text = "".join(chance.choice(["a", "b", "ab", "é", "\U0001f642", "\n"]) for _ in range(60))
    stops = tuple("".join(chance.choice("abé\n") for _ in range(chance.randint(1, 4))) for _ in range(3))
    data, parts = text.encode(), []
    while data:
        size = chance.randint(1, 5)
        parts.append(data[:size])
        data = data[size:]
    pieces, stopped = _said(parts, stops)
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert "".join(pieces) == (text[: min(ends)[1]] if ends else text)
    assert stopped == bool(ends)
