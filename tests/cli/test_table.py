"""Tables that fit a terminal, and are whole in a pipe."""

from __future__ import annotations

import sys

import pytest

from localllm.cli import table

ROWS = [("name", "size", "kind", "about"), ("a-name", "10 MB", "folder", "what it is good for and what not")]


def fitting(width: int | None, *, cut: bool = False) -> list[str]:
    return table.fitting(ROWS, {1}, spare=(2, 1), cut=cut, width=width)


def test_what_is_spare_goes_in_its_order_until_the_rest_fits() -> None:
    assert fitting(80) == [
        "name     size  kind    about",
        "a-name  10 MB  folder  what it is good for and what not",
    ]
    assert fitting(50) == ["name     size  about", "a-name  10 MB  what it is good for and what not"]
    assert fitting(41) == ["name    about", "a-name  what it is good for and what not"]
    assert fitting(10) == fitting(41), "what is not spare stays whole"


def test_the_last_column_is_cut_before_another_goes() -> None:
    assert fitting(40, cut=True) == ["name     size  kind    about", "a-name  10 MB  folder  what it is good …"]
    assert fitting(31, cut=True) == ["name     size  about", "a-name  10 MB  what it is good…"]


def test_a_column_that_is_cut_may_be_spare_itself() -> None:
    rows = [("a-long-name", "a list of what there is")]
    assert table.fitting(rows, spare=(1,), cut=True, width=20) == ["a-long-name"]
    assert table.fitting(rows, spare=(1,), cut=True, width=5) == ["a-long-name"]


def test_the_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "41")
    assert fitting(None) == fitting(80), "a pipe"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert fitting(None) == fitting(41)
