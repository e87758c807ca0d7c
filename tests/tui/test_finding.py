"""Where a text stands on rows."""

from __future__ import annotations

from localllm.tui.entries import Entry, UserEntry
from localllm.tui.finding import Span, matches, may_hold, wanted
from localllm.tui.search import Search


def places(rows: list[str], text: str, margin: int = 2) -> list[tuple[Span, ...]]:
    pattern = wanted(text)
    assert pattern is not None
    return matches(rows, pattern, margin)


def test_in_any_case_and_never_in_the_margin() -> None:
    assert places(["▌ Paris, PARIS", "  paris"], "paris") == [(Span(0, 2, 7),), (Span(0, 9, 14),), (Span(1, 2, 7),)]
    assert places(["ab cd"], "ab") == []


def test_over_the_end_of_a_row() -> None:
    assert places(["  the capital   ", "  of France is  "], "capital of France") == [(Span(0, 6, 13), Span(1, 2, 11))]


def test_signs_are_signs() -> None:
    assert places(["  a.c abc"], "a.c") == [(Span(0, 2, 5),)]
    assert wanted("  ") is None


def test_markdown_marks_do_not_hide_a_text() -> None:
    assert may_hold("the **capital** of\n`France`", "Capital of France")
    assert not may_hold("the capital", "city")
    assert may_hold("a", "?!")


def test_matches_are_walked_through_from_the_end_and_round() -> None:
    entries: list[Entry] = [UserEntry("x") for _ in range(3)]
    search = Search()
    search.begin("x", entries)
    for rows in (["  x x"], [], ["  x"]):
        index = search.next_entry()
        assert index is not None
        search.put(index, rows, 2)
    assert search.next_entry() is None
    assert (search.place, search.count) == (3, 3)
    seen = []
    for step in (-1, -1, -1, 1, 1):
        assert search.move(step)
        seen.append(search.place)
    assert seen == [2, 1, 3, 1, 2]
    search.put(2, ["  x", "  x x"], 2)
    assert (search.place, search.count) == (2, 4)
    assert list(search.on_row(2, 0)) == [(Span(0, 2, 3), True)]
    assert list(search.on_row(2, 1)) == [(Span(1, 2, 3), False), (Span(1, 4, 5), False)]
    search.begin("", entries)
    assert (search.active, search.place, search.count, search.move(1)) == (False, 0, 0, False)
