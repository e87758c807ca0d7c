"""Checks a GBNF grammar before llama.cpp gets it, and says where it does not parse.

llama.cpp prints its complaint to stderr with the rest of the text, hangs on some grammars (`"a"{3,2}`, left recursion
through rules that may be empty) and ends the process on others (tokens by name, after a character that begins them
too). What passes here is what it reads the same way.

Source of the language: `llama_grammar_parser` of llama.cpp's src/llama-grammar.cpp.
"""

from __future__ import annotations

import re

from localllm.errors import BadGrammar
from localllm.runtime.grammar.recursion import Item, Rule, refuse_endless, refuse_left_recursion

MAX_REPETITIONS = 2000
"""`MAX_REPETITION_THRESHOLD` of llama.cpp: of an item, times the rules that it is made of."""

MAX_DEPTH = 100
"""Parentheses within parentheses."""

_NAME = re.compile(r"[A-Za-z0-9-]+")
_INLINE_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_ANY_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_ESCAPE = re.compile(r'\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[trn\\"\[\]-])')
_COUNTS = re.compile(r"\{[ \t]*(\d+)[ \t]*(?:(,)[ \t]*(\d*)[ \t]*)?\}")
_PLAIN_ESCAPES = {"t": "\t", "r": "\r", "n": "\n"}


def check(text: str) -> None:
    """Tell what is wrong with a grammar.

    Raises:
        BadGrammar: it does not parse; names a rule that is not there, or twice; has no rule `root`; or a rule begins
            with itself, which no sampler of llama.cpp can follow, or never ends.
    """
    _Parser(text).check()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._rules: dict[str, Rule] = {}
        self._references: dict[str, int] = {}
        self._symbols: set[str] = set()  # as llama.cpp counts them: names, and a number for each that it makes
        self._depth = 0

    def check(self) -> None:
        try:
            self._text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise self._wrong("there is half of a surrogate pair, which is no character", error.start) from None
        if "\0" in self._text:
            raise self._wrong("there is a NUL character", self._text.index("\0"))
        self._skip(_ANY_SPACE)
        while self._at < len(self._text):
            self._rule()
        self._resolve()
        refuse_left_recursion(self._rules)
        refuse_endless(self._rules)

    def _rule(self) -> None:
        start = self._at
        name = self._match(_NAME)
        if name is None:
            raise self._wrong("a rule must begin with its name, of letters, digits and -")
        if name in self._rules:
            raise self._wrong(f"the rule {name!r} is there already, in line {self._rules[name].line}", start)
        self._symbols.add(name)
        self._skip(_INLINE_SPACE)
        if not self._text.startswith("::=", self._at):
            raise self._wrong(f"the name {name!r} must be followed by ::=")
        self._at += 3
        self._skip(_ANY_SPACE)
        self._rules[name] = Rule(self._line(start), self._alternatives(name, nested=False))
        if self._at < len(self._text) and self._text[self._at] not in "\r\n":
            raise self._wrong("this is no item, and no end of the rule")
        self._skip(_ANY_SPACE)

    def _alternatives(self, rule: str, *, nested: bool) -> list[list[Item]]:
        found = [self._sequence(rule, nested=nested)]
        while self._peek() == "|":
            self._at += 1
            self._skip(_ANY_SPACE)
            found.append(self._sequence(rule, nested=nested))
        return found

    def _sequence(self, rule: str, *, nested: bool) -> list[Item]:
        space = _ANY_SPACE if nested else _INLINE_SPACE
        items: list[Item] = []
        repeatable = False
        while self._at < len(self._text):
            if self._peek() in "*+?{":
                if not repeatable:
                    raise self._wrong(f"there is nothing before the {self._peek()} to repeat")
                self._repeat(rule, items[-1])
            else:
                item = self._item(rule)
                if item is None:
                    break
                # An empty literal or class is nothing that llama.cpp could repeat.
                repeatable = item.weight > 0
                items.append(item)
            self._skip(space)
        return items

    def _item(self, rule: str) -> Item | None:
        start, mark = self._at, self._peek()
        if mark == '"':
            return self._literal()
        if mark == "[":
            return self._characters()
        if mark in "<!":
            raise self._wrong("a token by name (<text> or <[id]>) is not taken: write its text")
        if mark == "(":
            return self._group(rule)
        if mark == ".":
            self._at += 1
            return Item()
        name = self._match(_NAME)
        if name is None:
            return None
        self._symbols.add(name)
        self._references.setdefault(name, start)
        return Item(starts={name})

    def _literal(self) -> Item:
        start = self._at
        self._at += 1
        empty = self._peek() == '"'
        while self._peek() != '"':
            if not self._peek():
                raise self._wrong('this text has no closing "', start)
            self._character()
        self._at += 1
        return Item(empty=empty, weight=0 if empty else 1)

    def _characters(self) -> Item:
        start = self._at
        self._at += 2 if self._text.startswith("[^", self._at) else 1
        if self._peek() == "]":
            raise self._wrong("this class has no characters", start)
        while self._peek() != "]":
            if not self._peek():
                raise self._wrong("this class has no closing ]", start)
            first, low = self._at, self._character()
            if self._peek() == "-" and not self._text.startswith("-]", self._at):
                self._at += 1
                if not self._peek():
                    raise self._wrong("this class has no closing ]", start)
                if self._character() < low:
                    raise self._wrong("this range ends before it begins", first)
        self._at += 1
        return Item()

    def _character(self) -> str:
        if self._peek() != "\\":
            self._at += 1
            return self._text[self._at - 1]
        start = self._at
        escape = self._match(_ESCAPE)
        if escape is None:
            raise self._wrong('unknown escape; there are \\n \\r \\t \\\\ \\" \\[ \\] \\- \\x41 \\u0041 \\U00000041')
        if escape[1] not in "xuU":
            return _PLAIN_ESCAPES.get(escape[1], escape[1])
        code = int(escape[2:], 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise self._wrong(f"{escape} is no character", start)
        return chr(code)

    def _group(self, rule: str) -> Item:
        start, before = self._at, len(self._symbols)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(f"there are more than {MAX_DEPTH} parentheses within each other")
        self._at += 1
        self._skip(_ANY_SPACE)
        name = self._new_symbol(rule)
        alternatives = self._alternatives(rule, nested=True)
        weight = max(1, len(self._symbols) - before)
        if self._peek() != ")":
            raise self._wrong("this group has no closing )", start)
        self._at += 1
        self._depth -= 1
        self._rules[name] = Rule(self._line(start), alternatives)
        return Item(starts={name}, weight=weight)

    def _new_symbol(self, rule: str) -> str:
        name = f"{rule}_{len(self._symbols)}"  # no rule of the text can have this name
        self._symbols.add(name)
        return name

    def _repeat(self, rule: str, item: Item) -> None:
        start = self._at
        low, high = self._counts()
        total = high or low or 1
        if max(low, high or 0, item.weight * total) > MAX_REPETITIONS:
            raise self._wrong(
                f"this makes {max(low, high or 0, item.weight * total):,} repetitions, counted with the rules "
                f"in parentheses, and llama.cpp takes {MAX_REPETITIONS:,}",
                start,
            )
        item.weight *= total
        item.empty = item.empty or low == 0
        for _ in range(1 if high is None else high - low):
            self._new_symbol(rule)

    def _counts(self) -> tuple[int, int | None]:
        """How often at least, and at most if there is a limit."""
        start, mark = self._at, self._peek()
        if mark != "{":
            self._at += 1
            return (1, None) if mark == "+" else (0, None) if mark == "*" else (0, 1)
        found = _COUNTS.match(self._text, start)
        if found is None:
            raise self._wrong("a number of repetitions is written {2}, {2,} or {2,5}", start)
        self._at = found.end()
        low = int(found[1])
        high = low if not found[2] else int(found[3]) if found[3] else None
        if high is not None and high < low:
            raise self._wrong(f"{high} repetitions at most are fewer than {low} at least", start)
        return low, high

    def _resolve(self) -> None:
        missing = {name: at for name, at in self._references.items() if name not in self._rules}
        if missing:
            name = min(missing, key=missing.__getitem__)
            raise self._wrong(f"there is no rule {name!r}", missing[name])
        if "root" not in self._rules:
            raise BadGrammar(
                "The grammar has no rule 'root', where it begins.", hint="Name the rule of a whole answer root."
            )

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _skip(self, space: re.Pattern[str]) -> None:
        self._match(space)

    def _line(self, at: int) -> int:
        return self._text.count("\n", 0, at) + 1

    def _wrong(self, what: str, at: int | None = None) -> BadGrammar:
        at = self._at if at is None else at
        start = self._text.rfind("\n", 0, at) + 1
        line = self._text[start:].split("\n", 1)[0].rstrip("\r")
        return BadGrammar(
            f"The grammar does not parse in line {self._line(at)}, column {at - start + 1}: {what}.",
            hint=f"The line is: {line[:200]}",
        )
