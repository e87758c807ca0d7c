"""Where two texts part, in words and characters."""

from __future__ import annotations

import pytest

from localllm.measure.parting import Parting, part


@pytest.mark.parametrize(
    ("left", "right", "parting"),
    [
        ("The sky is blue.", "The sky is grey.", Parting(3, 11, "blue.", "grey.")),
        ("The sky", "The skyline is", Parting(1, 7, "sky", "skyline is")),
        ("The sky is blue", "The sky", Parting(2, 7, "is blue", "")),
        ("", "Yes", Parting(0, 0, "", "Yes")),
        ("No", "Yes", Parting(0, 0, "No", "Yes")),
        ("a b c d e f g", "a x", Parting(1, 2, "b c d e …", "x")),
    ],
)
def test_the_first_word_that_differs(left: str, right: str, parting: Parting) -> None:
    assert part(left, right) == parting


def test_white_space_parts_nothing() -> None:
    assert part(" The sky\n\nis blue. ", "The sky is  blue.") is None
    assert part("", "  ") is None


def test_the_place_is_told_in_words() -> None:
    assert str(part("The sky is blue.", "The sky is grey.")) == "part at word 4 (character 12): “blue.” and “grey.”"
    assert str(part("One two", "One two three")) == (
        "are the same for 2 words, where one ends and the other goes on: “three”"
    )
