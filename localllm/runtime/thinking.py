"""What a reply thinks before it answers: where the thought begins and ends, by the markers that models write.

Only a thought at the beginning counts: a marker further on is something that is talked about. The app, `chat --plain`
and Python all ask here. Knows no model: what its template wants of earlier thoughts is in `template`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from localllm.runtime import channels

MARKERS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("◁think▷", "◁/think▷"),
)
"""Begin and end, as Qwen3, DeepSeek-R1, SmolLM3 and Granite write them, EXAONE Deep, Seed-OSS, Magistral and Ministral,
Command A, Gemma 4 and Kimi-VL, and as older models were taught. gpt-oss has `channels`."""

FOLDED = ("<details>\n<summary>Thought</summary>\n\n", "\n\n</details>\n\n")
"""What stands in Markdown around a thought."""

AROUND_THE_ANSWER = ("<response>", "</response>")
"""What Granite 3.3 writes around the answer that follows a thought."""

MARKS = channels.MARKS.union(*MARKERS)
"""Where one of these is a control token, which has no text, it stands in the text of a reply all the same."""


@dataclass(frozen=True)
class Parted:
    """A reply in two. `thought` is None where there is none; `closed` once the answer has begun."""

    thought: str | None
    closed: bool
    answer: str

    @property
    def folded(self) -> str:
        """As Markdown, the thought in a block that opens on a click: its markers are no tags that Markdown knows."""
        return f"{FOLDED[0]}{self.thought}{FOLDED[1]}{self.answer}" if self.thought else self.answer


def opened_by(prompt: str) -> str:
    """The marker that a prompt ends with, so that the answer begins inside of a thought; empty if none."""
    return next((begin for begin, _ in MARKERS if prompt.rstrip().endswith(begin)), "")


def parted(text: str, *, opened: str = "", growing: bool = False) -> Parted:
    """The thought and the answer of a reply, the space around them left out.

    `opened` is the marker that the prompt ended with, see `opened_by`. What may still become a marker while the text
    is `growing` is held back.
    """
    start = len(text) - len(text.lstrip())
    if channels.begins(text, start):
        thought, answer = channels.said_in(text, growing=growing)
        return Parted(thought or None, answer is not None, (answer or "").lstrip())
    for begin, end in MARKERS:
        if text.startswith(begin, start):
            return _split(text, start + len(begin), end, growing=growing)
    for begin, end in MARKERS:
        if begin == opened or _ends_alone(text, begin, end):
            return _split(text, start, end, growing=growing)
    if growing and any(begin.startswith(text[start:]) for begin in (*dict(MARKERS), channels.CHANNEL)):
        return Parted(None, False, "")
    return Parted(None, False, text)


def _split(text: str, start: int, end: str, *, growing: bool) -> Parted:
    at = text.find(end, start)
    if at >= 0:
        return Parted(text[start:at].strip(), True, _unwrapped(text[at + len(end) :].lstrip(), growing=growing))
    thought = text[start:]
    if growing:
        thought = _certain(thought, end)
    # Space at the end of a thought that goes on may become part of a line that is not yet there.
    return Parted(thought.lstrip(), False, "")


def _certain(text: str, marker: str) -> str:
    """The text without what, at its end, may become the marker."""
    held = next((size for size in range(len(marker) - 1, 0, -1) if text.endswith(marker[:size])), 0)
    return text[: len(text) - held]


def _unwrapped(answer: str, *, growing: bool) -> str:
    begin, end = AROUND_THE_ANSWER
    if growing and begin.startswith(answer):
        return ""
    if not answer.startswith(begin):
        return answer
    answer = answer[len(begin) :].lstrip()
    ended = answer.rstrip()
    return ended.removesuffix(end).rstrip() if ended.endswith(end) else _certain(answer, end) if growing else answer


def _ends_alone(text: str, begin: str, end: str) -> bool:
    """Whether a thought ends that never began: the prompt began it, and `end` has a line of its own."""
    at = text.find(end)
    if at < 0 or begin in text:
        return False
    return bool(re.search(r"(?:^|\n)[ \t]*$", text[:at]) and re.match(r"[ \t]*(?:\n|$)", text[at + len(end) :]))


class Parting:
    """A reply that is parted while it grows; `opened` as for `parted`."""

    def __init__(self, opened: str = "") -> None:
        self._opened = opened
        self._text = ""
        self._given = ("", "")

    def feed(self, text: str) -> tuple[str, str]:
        """What `text` adds to the thought, and to the answer."""
        self._text += text
        return self._new(growing=True)

    def rest(self) -> tuple[str, str]:
        """What was held back, when nothing more comes."""
        return self._new(growing=False)

    def _new(self, *, growing: bool) -> tuple[str, str]:
        said = parted(self._text, opened=self._opened, growing=growing)
        now = (said.thought or "", said.answer)
        thought, answer = (
            after.removeprefix(before) if after.startswith(before) else ""
            for before, after in zip(self._given, now, strict=True)
        )
        self._given = (max(self._given[0], now[0], key=len), max(self._given[1], now[1], key=len))
        return thought, answer
