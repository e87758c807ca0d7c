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

_PIECE = re.compile(
    rf"(?:{re.escape(START)}[^<]*)?{re.escape(CHANNEL)}\s*(\w*)(?:[^<]|<\|constrain\|>)*{re.escape(MESSAGE)}"
    rf"(.*?)(?={re.escape(END)}|{re.escape(START)}|{re.escape(CHANNEL)}|\Z)",
    re.DOTALL,
)
_HALF_MARK = re.compile(r"<(?:\|[a-z]*\|?)?\Z")


def begins(text: str, start: int = 0) -> bool:
    """Whether a reply is in channels."""
    return text.startswith(CHANNEL, start)


def said_in(text: str, *, growing: bool = False) -> tuple[str, str | None]:
    """What is said in other channels, and in the final one: None where that has not begun.

    What may still become a mark while the text is `growing` is held back.
    """
    half = _HALF_MARK.search(text) if growing else None
    thoughts, answer = [], None
    for name, said in _PIECE.findall(text[: half.start()] if half else text):
        if name == FINAL:
            answer = (answer or "") + said
        else:
            thoughts.append(said.strip() if answer is not None or not growing else said.lstrip())
    return "\n\n".join(filter(None, thoughts)), answer
