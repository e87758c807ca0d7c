"""Refuses what parses and no sampler of llama.cpp can follow: rules without an end, or that begin with themselves.

Knows rules by name and what each of their items may begin with; knows no text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from localllm.errors import BadGrammar


@dataclass
class Item:
    """What one step of a sequence is: the rules that it may begin with, and whether it may be nothing."""

    starts: set[str] = field(default_factory=set)
    empty: bool = False
    weight: int = 1


@dataclass
class Rule:
    """A rule, which stands in `line`: for each of its alternatives the items in order."""

    line: int
    alternatives: list[list[Item]]


Rules = Mapping[str, Rule]


def _rules_where(rules: Rules, holds: Callable[[Item, set[str]], bool]) -> set[str]:
    """The rules with an alternative of which each item `holds`, given the rules that are known to so far."""
    known: set[str] = set()
    while True:
        more = {
            name
            for name, rule in rules.items()
            if any(all(holds(item, known) for item in items) for items in rule.alternatives)
        }
        if more == known:
            return known
        known = more


def refuse_endless(rules: Rules) -> None:
    """Raises `BadGrammar` if a rule has no end."""
    ending = _rules_where(rules, lambda item, known: item.empty or item.starts <= known)
    endless = [name for name in rules if name not in ending and "_" not in name]
    if endless:
        line = rules[endless[0]].line
        raise BadGrammar(
            f"The grammar cannot be followed: in line {line} the rule {endless[0]!r} has no end, because each of "
            "its alternatives needs it again.",
            hint="Give it an alternative that does without.",
        )


def refuse_left_recursion(rules: Rules) -> None:
    """Raises `BadGrammar` if a rule may begin with itself."""

    def may_be_empty(item: Item, known: set[str]) -> bool:
        return item.empty or (bool(item.starts) and item.starts <= known)

    empty = _rules_where(rules, may_be_empty)
    first: dict[str, list[str]] = {}
    for name, rule in rules.items():
        first[name] = []
        for items in rule.alternatives:
            for item in items:
                first[name] += item.starts
                if not may_be_empty(item, empty):
                    break
    _refuse_cycles(rules, first)


def _refuse_cycles(rules: Rules, first: dict[str, list[str]]) -> None:
    """Walk depth first from each rule to those that it may begin with; none may be met again on the way."""
    done: set[str] = set()
    for begin in first:
        path: list[str] = []
        following = [iter([begin])]
        while following:
            name = next(following[-1], None)
            if name is None:
                following.pop()
                done.update(path[-1:])
                del path[-1:]
            elif name in path:
                raise _begins_with_itself(rules, [*path[path.index(name) :], name])
            elif name not in done:
                path.append(name)
                following.append(iter(first[name]))


def _begins_with_itself(rules: Rules, cycle: list[str]) -> BadGrammar:
    named = " → ".join(name for name in cycle if "_" not in name)
    line = rules[cycle[0]].line
    return BadGrammar(
        f"The grammar cannot be followed: in line {line} a rule begins with itself ({named}).",
        hint="Let it begin with something else, or repeat with * or +.",
    )
