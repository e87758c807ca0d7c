"""What of a model's answer is a title."""

from __future__ import annotations

import pytest

from localllm.chat.titles import QUESTION, question, title_in
from localllm.runtime.types import Message


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("Wombats at Home", "Wombats at Home"),
        ('"Wombats at Home."', "Wombats at Home"),
        ("**Title:** Wombats\nand more", "Wombats"),
        ("# Chat title: The  Sky", "The Sky"),
        ("「東京の天気」", "東京の天気"),
        ("標題：東京", "標題：東京"),
        ("", ""),
        ("```", ""),
        ("x" * 61, ""),
        ("<think>\nThe user wants", ""),
        ("<think>\nA title.</think>\nWombats", ""),
    ],
)
def test_titles(answer: str, title: str) -> None:
    assert title_in(answer) == title


def test_the_question_comes_after_the_conversation() -> None:
    said = [Message("user", "Hi"), Message("assistant", "Hello.")]
    assert question(said) == [*said, Message("user", QUESTION)]
