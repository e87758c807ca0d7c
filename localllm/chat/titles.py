"""A title that a model gives a chat: what it is asked, and what of its answer is one.

Knows nothing of who asks, or where titles are kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from localllm.chat.conversation import TITLE_LENGTH
from localllm.runtime.sampling import Sampling
from localllm.runtime.thinking import parted
from localllm.runtime.types import Message

QUESTION = "Write a title for our conversation so far: two to six words, and nothing else."

MAX_TOKENS = 20
"""A title is shorter. A model that begins with a thought gets no further, and gives none."""

SAMPLING = Sampling(temperature=0.0, stop=("\n",))

_LABEL = re.compile(r"^(?:#+\s*|\**(?:chat\s+|conversation\s+)?title\**\s*[:：]\s*)+", re.IGNORECASE)
_AROUND = " \t\"'`*_“”„«»‘’「」.:"


def question(messages: Sequence[Message]) -> list[Message]:
    """The conversation, and after it the question for a title: its beginning is in the KV cache."""
    return [*messages, Message("user", QUESTION)]


def title_in(answer: str) -> str:
    """The title that a model answered; empty if it did not answer with one."""
    said = parted(answer)
    if said.thought is not None:
        return ""
    lines = said.answer.strip().splitlines()
    title = _LABEL.sub("", lines[0].strip()).strip(_AROUND) if lines else ""
    return " ".join(title.split()) if 1 < len(title) <= TITLE_LENGTH else ""
