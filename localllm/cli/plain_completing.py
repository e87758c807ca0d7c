"""What Tab writes in a plain chat: the rest of a `/` command, or of a path after @, `/attach` and `/save`.

Stands between readline, which knows words without spaces, and what the app offers while somebody types.
"""

from __future__ import annotations

from localllm.chat.completing import command_choices, path_choices, word_before

BREAKS = " \t"
"""Where readline's words end: it replaces what is behind the last of them."""


def completions(line: str, begin: int, *, first: bool) -> list[str]:
    """What the end of `line`, which begins at `begin`, may become; `first`: it is the first line of a message."""
    word = word_before(line, first=first)
    if word is None:
        return []
    choices = command_choices(word.text, plain=True) if word.kind == "command" else path_choices(word)
    texts = [f"{choice.text}{' ' if choice.whole and word.kind == 'mention' else ''}" for choice in choices]
    if not all(text.startswith('"') for text in texts):
        # readline writes what all have in common: of some in quotes and some without that is less than was typed.
        texts = [text.replace('"', "") for text in texts]
    # What is before `begin` stays as it was typed: with other capitals it would be another file.
    kept, start = line[word.begin : begin], line[begin : word.begin]
    return [start + text.removeprefix(kept) for text in texts if text.startswith(kept)]
