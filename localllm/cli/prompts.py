"""A prompt from the command line and from a pipe, and what of the arguments is a model instead."""

from __future__ import annotations

import sys
from pathlib import Path


def piped() -> str:
    """What came on stdin; empty where that is a terminal.

    Raises:
        BadText: it is no valid UTF-8.
    """
    from localllm.native.vocab import encoded

    text = "" if sys.stdin.isatty() else sys.stdin.read()
    encoded(text, "What came on stdin")  # told by its place there, before it is joined with anything
    return text


def joined(prompt: str, piped: str) -> str:
    """The prompt, and what was piped below it."""
    return f"{prompt}\n\n{piped}" if piped.strip() else prompt


def is_model(text: str, *, beside_a_pipe: bool) -> bool:
    """Whether an argument that may be either names a model and is not a prompt."""
    from localllm import library, paths

    if any(character.isspace() for character in text):
        return paths.exists(Path(text)) and Path(text).is_file()
    known = text.endswith(".gguf") or library.knows(text) or paths.exists(Path(text))
    # Beside a pipe a mistyped name is likelier than a prompt such as `a/b`; none ends in a colon, as `Translate:` does.
    return known or (beside_a_pipe and any(mark in text for mark in ":/") and not text.endswith(":"))
