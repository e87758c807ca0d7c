"""A GBNF grammar in the making: named rules, and the expressions that they are made of."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable


class Rules:
    """Named rules. Two rules with the same body are one."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def add(self, wish: str, body: str) -> str:
        """The name of a rule with that body; like `wish` if it is free."""
        if body not in self._names:
            self._names[body] = self.reserve(wish)
            self._bodies[self._names[body]] = body
        return self._names[body]

    def reserve(self, wish: str) -> str:
        """A name for a rule whose body comes later, by `define`."""
        clean = re.sub(r"[^A-Za-z0-9]+", "-", wish).strip("-")[:40] or "part"
        name, number = clean, 1
        while name in self._bodies:
            number += 1
            name = f"{clean}-{number}"
        self._bodies[name] = ""
        return name

    def define(self, name: str, body: str) -> None:
        """The body of a reserved name."""
        self._bodies[name] = body

    def text(self) -> str:
        """The grammar."""
        return "".join(f"{name} ::= {body}\n" for name, body in self._bodies.items())


def literal(text: str) -> str:
    """An expression for that text and nothing else."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08X}"


def one_of(texts: Iterable[str], rules: Rules) -> str:
    """An expression for one of some texts. What they begin with in common is there once: a sampler follows few ways."""
    known = sorted(set(texts))
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(known[0], known[-1], strict=False))
    common = "".join(first for first, _ in pairs)
    rests = [text[len(common) :] for text in known]
    if len(known) == 1:
        return literal(common)
    groups = [list(group) for _, group in itertools.groupby(filter(None, rests), key=lambda rest: rest[0])]
    name = rules.add("value", " | ".join(one_of(group, rules) for group in groups))
    after = f"{name}?" if "" in rests else name
    return f"{literal(common)} {after}" if common else after


def either(choices: Iterable[str | None]) -> str | None:
    """An expression for one of several; None, which is nothing that could be written, is no choice."""
    known = list(dict.fromkeys(choice for choice in choices if choice is not None))
    if len(known) < 2:
        return known[0] if known else None
    return "(" + " | ".join(known) + ")"


def then(*parts: str | None) -> str | None:
    """An expression for one after the other."""
    return None if None in parts else " ".join(part for part in parts if part)


def times(part: str, low: int, high: int | None) -> str:
    """An expression for `part`, which is one item, from `low` to `high` times; None is no limit."""
    if (low, high) == (1, 1):
        return part
    return part + "{" + (str(low) if low == high else f"{low}," if high is None else f"{low},{high}") + "}"


def maybe(part: str | None) -> str:
    """An expression for `part` or nothing."""
    return f"({part})?" if part else ""
