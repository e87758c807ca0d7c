"""Numbers of things, in words."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """`1 token`, `2,000 tokens`; `what` is one of them."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
