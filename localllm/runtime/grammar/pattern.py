"""Regular expressions of JSON schemas (`pattern`) as GBNF for the content of a JSON string.

What is taken reads the same in ECMA 262, which the standard names, and in Python: letters, classes, groups, choices,
repetitions, and ^ and $ around a whole alternative. Where both differ in what they match, less is written.
"""

from __future__ import annotations

from localllm.runtime.grammar import chars
from localllm.runtime.grammar.chars import CharSet, all_but, charset, in_json, of
from localllm.runtime.grammar.rules import Rules, either, then, times

MAX_REPETITIONS = 2000

_DIGITS: CharSet = ((ord("0"), ord("9")),)
_WORD = charset([*_DIGITS, (ord("A"), ord("Z")), (ord("a"), ord("z")), *of("_")])
_SPACE = of(" \t\n\r\f\v")
_PRINTABLE: CharSet = ((0x20, 0x7E),)  # what the complements are taken in, because beyond ASCII opinions differ
_DOT = all_but(of("\n\r\u2028\u2029"))

_CLASSES = {
    "d": _DIGITS,
    "w": _WORD,
    "s": _SPACE,
    "D": chars.minus(_PRINTABLE, _DIGITS),
    "W": chars.minus(_PRINTABLE, _WORD),
    "S": chars.minus(_PRINTABLE, _SPACE),
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}


class Unsupported(Exception):
    """Something in a pattern that a grammar cannot express; its text says what, and where."""


def in_string(pattern: str, rules: Rules) -> str:
    """An expression for the content of the JSON strings in which `pattern` is found.

    Raises:
        Unsupported: no grammar can express it, or the pattern is none.
    """
    found = _Pattern(pattern, rules).read()
    if found is None:
        raise Unsupported("it matches nothing that JSON can hold")
    return found


class _Pattern:
    def __init__(self, text: str, rules: Rules) -> None:
        self._text, self._rules, self._at = text, rules, 0

    def read(self) -> str | None:
        found = [self._alternative(top=True)]
        while self._take("|"):
            found.append(self._alternative(top=True))
        if self._at < len(self._text):
            raise self._no("an unbalanced )")
        return either(found)

    def _alternative(self, *, top: bool) -> str | None:
        """One after the other, up to a | or the end. At the top it may be anywhere in the string, unless anchored."""
        around = self._rules.add("any", in_json(all_but(())) or "") + "*" if top else None
        parts: list[str | None] = [] if around is None or self._take("^") else [around]
        while self._at < len(self._text) and self._peek() not in "|)":
            if top and self._peek() == "$" and self._text[self._at + 1 : self._at + 2] in ("", "|"):
                self._at += 1
                return then(*parts) if parts else '""'
            parts.append(self._repeated())
        parts += [around] if around else []
        return then(*parts) if parts else '""'

    def _repeated(self) -> str | None:
        part = self._atom()
        low, high = self._counts()
        if (low, high) == (1, 1):
            return part
        if max(low, high or 0) > MAX_REPETITIONS:
            raise self._no(f"more than {MAX_REPETITIONS:,} repetitions")
        if self._take("?"):
            pass  # lazy: which of the matches is found makes no difference to what matches
        elif self._peek() == "+":
            raise self._no("a possessive repetition")
        return "" if part is None and low == 0 else part and times(self._rules.add("part", part), low, high)

    def _counts(self) -> tuple[int, int | None]:
        for mark, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(mark):
                return counts
        if self._peek() != "{":
            return 1, 1
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : end].partition(",")
        if end < 0 or not low.isdecimal() or not (high.isdecimal() or not high):
            raise self._no("a { that is no repetition")
        self._at = end + 1
        if not comma:
            return int(low), int(low)
        if high and int(high) < int(low):
            raise self._no("a repetition that ends before it begins")
        return int(low), int(high) if high else None

    def _atom(self) -> str | None:
        mark = self._peek()
        if mark == "(":
            return self._group()
        if mark == "[":
            return in_json(self._class())
        if mark == ".":
            self._at += 1
            return in_json(_DOT)
        if mark in "^$":
            raise self._no(f"a {mark} inside")
        if mark in "*+?{":
            raise self._no(f"a {mark} with nothing to repeat")
        return in_json(self._character())

    def _group(self) -> str | None:
        self._at += 1
        if self._take("?") and not self._take(":"):
            if not self._take("<") or self._peek() in "=!":
                raise self._no("a look ahead or behind")
            self._at = self._text.find(">", self._at) + 1
        found = [self._alternative(top=False)]
        while self._take("|"):
            found.append(self._alternative(top=False))
        if not self._take(")"):
            raise self._no("a group without its )")
        expression = either(found)
        return expression and self._rules.add("part", expression)

    def _class(self) -> CharSet:
        self._at += 1
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        while not self._take("]"):
            if self._at >= len(self._text):
                raise self._no("a class without its ]")
            low = self._character(in_class=True)
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._character(in_class=True)
                if len(low) != 1 or len(high) != 1 or low[0][0] > high[0][0]:
                    raise self._no("a range that is none")
                ranges.append((low[0][0], high[0][0]))
            else:
                ranges += low
        return all_but(charset(ranges)) if negated else charset(ranges)

    def _character(self, *, in_class: bool = False) -> CharSet:
        """The character here, or those of an escape."""
        if not self._take("\\"):
            self._at += 1
            return of(self._text[self._at - 1])
        mark = self._peek()
        self._at += 1
        if mark in _CLASSES and mark:
            if in_class and mark.isupper():
                raise self._no(f"\\{mark} in a class")
            return _CLASSES[mark]
        if mark in _CONTROLS and mark:
            return of(_CONTROLS[mark])
        if mark in ("x", "u"):
            return self._code(2 if mark == "x" else 4)
        if not mark or mark.isalnum():
            raise self._no(f"\\{mark}")
        return of(mark)

    def _code(self, digits: int) -> CharSet:
        try:
            code = int(self._text[self._at : self._at + digits], 16)
        except ValueError:
            raise self._no("an incomplete escape") from None
        self._at += digits
        return ((code, code),)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, mark: str) -> bool:
        taken = self._text.startswith(mark, self._at)
        self._at += len(mark) if taken else 0
        return taken

    def _no(self, what: str) -> Unsupported:
        return Unsupported(f"{what}, at character {self._at + 1}")
