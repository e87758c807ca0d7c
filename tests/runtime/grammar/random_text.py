"""Random texts that a GBNF grammar allows, made without llama.cpp: an opinion of its own on what a grammar means."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_TOKEN = re.compile(r'\s*(?:("(?:\\.|[^"\\])*")|(\[(?:\\.|[^\]\\])*\])|([A-Za-z0-9-]+)|(\{\d+(?:,\d*)?\})|([()|*+?]))')
_CHARACTER = re.compile(r"\\U([0-9A-F]{8})|\\x([0-9A-F]{2})|\\(.)|(.)", re.DOTALL)

Maker = Callable[[int], str]


class RandomText:
    """Makes texts. The deeper it gets, the more it takes the shortest way."""

    def __init__(self, grammar: str, seed: int) -> None:
        self._chance = random.Random(seed)
        self._rules: dict[str, Maker] = {}
        for line in grammar.splitlines():
            name, body = line.split(" ::= ", 1)
            tokens = [found.groups() for found in _TOKEN.finditer(body)]
            self._rules[name] = self._alternatives(tokens)

    def text(self) -> str:
        return self._rules["root"](0)

    def _alternatives(self, tokens: list[tuple[str | None, ...]]) -> Maker:
        choices = [self._sequence(tokens)]
        while tokens and tokens[0][4] == "|":
            tokens.pop(0)
            choices.append(self._sequence(tokens))

        def make(depth: int) -> str:
            if depth < 25:
                return self._chance.choice(choices)(depth + 1)
            # Deep inside: try each, and take the one that ends.
            for choice in sorted(choices, key=lambda _: self._chance.random()):
                try:
                    return choice(depth + 1)
                except RecursionError:
                    continue
            raise RecursionError

        return make

    def _sequence(self, tokens: list[tuple[str | None, ...]]) -> Maker:
        parts: list[Maker] = []
        while tokens and tokens[0][4] not in ("|", ")"):
            parts.append(self._repeated(self._item(tokens), tokens))
        return lambda depth: "".join(part(depth) for part in parts)

    def _item(self, tokens: list[tuple[str | None, ...]]) -> Maker:
        literal, characters, name, _, mark = tokens.pop(0)
        if literal is not None:
            text = _unescaped(literal[1:-1])
            return lambda depth: text
        if characters is not None:
            ranges = _ranges(characters[1:-1])
            return lambda depth: self._character(ranges)
        if name is not None:
            return lambda depth: self._named(name, depth)
        assert mark == "(", mark
        inner = self._alternatives(tokens)
        tokens.pop(0)
        return inner

    def _named(self, name: str, depth: int) -> str:
        if depth > 60:
            raise RecursionError
        return self._rules[name](depth + 1)

    def _repeated(self, part: Maker, tokens: list[tuple[str | None, ...]]) -> Maker:
        if not tokens or (tokens[0][4] not in ("*", "+", "?") and tokens[0][3] is None):
            return part
        mark = tokens.pop(0)
        bounds = {"*": "0,", "+": "1,", "?": "0,1"}[mark[4]] if mark[4] else (mark[3] or "")[1:-1]
        low, comma, high = bounds.partition(",")
        least = int(low)
        most = int(high) if high else least if not comma else least + 3

        def make(depth: int) -> str:
            count = self._chance.randint(least, most if depth < 25 else least)
            return "".join(part(depth) for _ in range(count))

        return self._repeated(make, tokens)

    def _character(self, ranges: list[tuple[int, int]]) -> str:
        low, high = self._chance.choice(ranges)
        return chr(self._chance.randint(low, min(high, low + 300)))


def _read(found: re.Match[str]) -> str:
    code = found[1] or found[2]
    return chr(int(code, 16)) if code else {"n": "\n", "r": "\r", "t": "\t"}.get(found[3], found[3] or found[4])


def _unescaped(text: str) -> str:
    return "".join(_read(found) for found in _CHARACTER.finditer(text))


def _ranges(text: str) -> list[tuple[int, int]]:
    parts = [(found[0], ord(_read(found))) for found in _CHARACTER.finditer(text)]
    ranges, at = [], 0
    while at < len(parts):
        is_range = at + 2 < len(parts) and parts[at + 1][0] == "-"
        ranges.append((parts[at][1], parts[at + 2 if is_range else at][1]))
        at += 3 if is_range else 1
    return ranges
