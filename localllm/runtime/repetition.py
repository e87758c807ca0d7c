"""Whether an answer only says the same over and over, as small models do that choose the likeliest token each time.

Knows no tokens: it looks at the end of a text.
"""

from __future__ import annotations

LONGEST = 600
"""A passage of more characters that comes again is not called a repetition: the answer may quote."""

TIMES = 4
"""So often the passage stands at the end of the text, one after the other."""

LEAST = 160
"""The end of the text that repeats has at least so many characters: a rule of dashes in a table is shorter."""


def repeats_itself(text: str) -> bool:
    """Whether the text ends in one passage that stands there again and again.

    A list or a table says something else in each line, if only a number, and so does not count.
    """
    for length in range(1, min(LONGEST, len(text) // TIMES) + 1):
        span = max(LEAST, TIMES * length) - length
        if len(text) >= span + length and text[-span:] == text[-span - length : -length]:
            return True
    return False
