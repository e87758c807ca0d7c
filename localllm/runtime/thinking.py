"""What a reply thinks before it answers: where the thought begins and ends, by the markers that models write.

Pure functions on text. Only a thought at the beginning counts: a marker further on is something that is talked about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MARKERS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""Begin and end, as Qwen3, DeepSeek-R1, Seed-OSS, Magistral and Command A write them, and older models were taught."""


@dataclass(frozen=True)
class Parted:
    """A reply in two. `thought` is None where there is none; `closed` once the answer has begun."""

    thought: str | None
    closed: bool
    answer: str


def opened_by(template: str) -> str:
    """The marker that a chat template writes last, so that the answer begins inside of a thought; empty if none.

    Read from its source, not run: the string that ends where the generation prompt does, as in the templates of
    DeepSeek-R1 and Qwen3-Thinking.
    """
    end = template[template.rfind("add_generation_prompt") :]
    return next((begin for begin, _ in MARKERS if re.search(re.escape(begin) + r"(?:\\n)*['\"]\s*[-+]?\}\}", end)), "")


def parted(text: str, *, opened: str = "", growing: bool = False) -> Parted:
    """The thought and the answer of a reply, the space around them left out.

    `opened` is the marker that the prompt ended with, see `opened_by`. What may still become a marker while the text
    is `growing` is held back.
    """
    start = len(text) - len(text.lstrip())
    for begin, end in MARKERS:
        if text.startswith(begin, start):
            return _split(text, start + len(begin), end, growing=growing)
    for begin, end in MARKERS:
        if begin == opened or _ends_alone(text, begin, end):
            return _split(text, start, end, growing=growing)
    if growing and any(begin.startswith(text[start:]) for begin, _ in MARKERS):
        return Parted(None, False, "")
    return Parted(None, False, text)


def _split(text: str, start: int, end: str, *, growing: bool) -> Parted:
    at = text.find(end, start)
    if at >= 0:
        return Parted(text[start:at].strip(), True, text[at + len(end) :].lstrip())
    thought = text[start:]
    if growing:
        held = next((size for size in range(len(end) - 1, 0, -1) if thought.endswith(end[:size])), 0)
        thought = thought[: len(thought) - held]
    # Space at the end of a thought that goes on may become part of a line that is not yet there.
    return Parted(thought.lstrip(), False, "")


def _ends_alone(text: str, begin: str, end: str) -> bool:
    """Whether a thought ends that never began: the prompt began it, and `end` has a line of its own."""
    at = text.find(end)
    if at < 0 or begin in text:
        return False
    return bool(re.search(r"(?:^|\n)[ \t]*$", text[:at]) and re.match(r"[ \t]*(?:\n|$)", text[at + len(end) :]))
