"""Where two texts part: how much is the same, and what each goes on with. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHOWN_WORDS = 4
"""So many words are told of how each text goes on."""


@dataclass(frozen=True)
class Parting:
    """Two texts have their first `words` words in common, and `characters` characters; then each goes on in its way.

    `left` and `right` are its next words; one of them is empty where that text ends.
    """

    words: int
    characters: int
    left: str
    right: str

    def __str__(self) -> str:
        if self.left and self.right:
            place = f"word {self.words + 1:,} (character {self.characters + 1:,})"
            return f"part at {place}: “{self.left}” and “{self.right}”"
        return (
            f"are the same for {self.words:,} words, where one ends and the other goes on: “{self.left or self.right}”"
        )


def part(left: str, right: str) -> Parting | None:
    """Where `left` and `right` part; None if they differ in white space at most."""
    ours, theirs = left.split(), right.split()
    same = _common(ours, theirs)
    if same == len(ours) == len(theirs):
        return None
    characters = _common(left.strip(), right.strip())
    return Parting(same, characters, _opening(ours[same:]), _opening(theirs[same:]))


def _common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(ours), len(theirs)))


def _opening(words: Sequence[str]) -> str:
    return " ".join(words[:SHOWN_WORDS]) + (" …" if len(words) > SHOWN_WORDS else "")
