"""Replies in channels, as gpt-oss writes them: one for its analysis, another for the answer. Pure functions on text.

    <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…

Source of the format: the "harmony" response format of OpenAI, as in the chat template of gpt-oss.
"""

from __future__ import annotations

import re

CHANNEL, MESSAGE, START, END = "<|channel|>", "<|message|>", "<|start|>", "<|end|>"

MARKS = frozenset({CHANNEL, MESSAGE, START, END, "<|constrain|>"})
"""Control tokens that stand in the text of such a reply."""

FINAL = "final"
"""The channel of the answer; what is said in others is thought."""

_MARK = re.compile("|".join(map(re.escape, (CHANNEL, MESSAGE, START, END))))
_HALF_MARK = re.compile(r"<(?:\|[a-z]*\|?)?\Z")


def begins(text: str, start: int = 0) -> bool:
    """Whether a reply is in channels."""
    return text.startswith(CHANNEL, start)


def said_in(text: str, *, growing: bool = False) -> tuple[str, str | None]:
    """What is said in other channels, and in the final one: None where that has not begun.

    What may still become a mark while the text is `growing` is held back.
    """
    half = _HALF_MARK.search(text) if growing else None
    text = text[: half.start()] if half else text
    marks = [*_MARK.finditer(text)]
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    thoughts, answer, channel = [], None, ""
    for mark, end in zip(marks, ends, strict=True):
        said = text[mark.end() : end]
        if mark[0] == CHANNEL:
            channel = (said.split() or [""])[0]
        elif mark[0] == MESSAGE and channel == FINAL:
            answer = (answer or "") + said
        elif mark[0] == MESSAGE:
            thoughts.append(said)
    # Space at the end of a thought that goes on may become part of a line that is not yet there.
    whole = [thought.strip() for thought in thoughts[:-1]] + [thought.lstrip() for thought in thoughts[-1:]]
    thought = "\n\n".join(filter(None, whole))
    return thought if answer is None else thought.rstrip(), answer
