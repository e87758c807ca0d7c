"""stdin, stdout and stderr, made such that every command can count on them."""

from __future__ import annotations

import io
import os
import sys


def prepare() -> None:
    """Put `/dev/null` where a stream was closed, wait for what is slow, and print `?` for what an encoding lacks."""
    _fill_closed_descriptors()
    for descriptor, (name, errors) in enumerate(
        (("stdin", "surrogateescape"), ("stdout", "replace"), ("stderr", "replace"))
    ):
        # Whoever shares it may not want to wait. Python then takes a pause for the end, and loses what does not fit.
        os.set_blocking(descriptor, True)
        # Python has None for a closed one, and prints to stdout what is meant for a stderr that is None.
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", encoding="utf-8", closefd=False))
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            # Not to fail in mid-answer. What was piped is checked later.
            stream.reconfigure(encoding=_without_mark(stream), errors=errors)


def _without_mark(stream: io.TextIOWrapper) -> str:
    """The encoding that leaves out what some editors and shells pipe before UTF-8: no `/` command begins with it."""
    piped = stream is sys.stdin and not stream.isatty()
    return "utf-8-sig" if piped and stream.encoding.casefold() == "utf-8" else stream.encoding


def _fill_closed_descriptors() -> None:
    """Let no file of ours get the number of a closed stream, where C code and child processes would write to it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
