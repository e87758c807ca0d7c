"""What counts as an answer that repeats itself, and what does not."""

from __future__ import annotations

import pytest

from localllm.runtime.repetition import repeats_itself

SENTENCE = "La capitale de la France est la capitale de la France. "


@pytest.mark.parametrize("text", [SENTENCE * 9, f"It begins well. {SENTENCE * 9}La cap", "ha" * 200, "\n" * 300])
def test_the_same_again_and_again_counts_wherever_it_is_cut(text: str) -> None:
    assert repeats_itself(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        SENTENCE * 2,
        "\n".join(f"| {number} | yes | yes | yes |" for number in range(100)),
        "\n".join(f"{number}. One of the things that make a good day." for number in range(1, 60)),
        f"{SENTENCE * 20} But that is not all there is to say of it.",
        "| name | value |\n" + "|" + "-" * 100 + "|",
        ("Chorus: " + "a long line of a song that nobody knows by heart, " * 3 + "\n") * 2,
    ],
)
def test_lists_tables_and_a_few_repetitions_do_not(text: str) -> None:
    assert not repeats_itself(text)
