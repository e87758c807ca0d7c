"""Where in a prompt each message of a conversation ends: what of a conversation is in the KV cache follows from it.

Pure arithmetic on texts and tokens.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Sequence

from localllm.runtime.prompt import Prompt
from localllm.runtime.types import Message
from localllm.runtime.window import pinned


def ends_of(messages: Sequence[Message], prompt: Prompt, written: Callable[[int], bytes]) -> tuple[int, ...]:
    """For each message the tokens of the whole prompt up to its end; 0 for those that are left out.

    `written` gives the bytes of a token as they stand in the prompt. About: a template may change what a message says,
    and a tokenizer may add a space; then an end is some tokens off.
    """
    begin = len(pinned(messages)) if prompt.dropped_messages else 0
    left_out = range(begin, begin + prompt.dropped_messages)
    covered = list(itertools.accumulate(len(written(token)) for token in prompt.whole))
    # What the vocabulary put in front and the text does not say.
    lead = max(0, (covered[-1] if covered else 0) - len(prompt.text.encode("utf-8", "replace")))
    ends: list[int] = []
    at = at_bytes = 0
    for number, message in enumerate(messages):
        if number in left_out:
            ends.append(0)
            continue
        said = message.content.strip()
        found = prompt.text.find(said, at)
        end = found + len(said) if found >= 0 else at
        at_bytes += len(prompt.text[at:end].encode("utf-8", "replace"))
        at = end
        ends.append(min(len(covered), bisect_left(covered, at_bytes + lead) + 1))
    return tuple(ends)
