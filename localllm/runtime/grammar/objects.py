"""The members of JSON objects as GBNF: pairs that are required or not, in their order, and names that are not taken."""

from __future__ import annotations

from dataclasses import dataclass

from localllm.runtime.grammar.chars import UNESCAPED, as_class, minus, of
from localllm.runtime.grammar.rules import Rules, either, maybe, then, times


@dataclass(frozen=True)
class Extra:
    """Pairs by the rule `pair` that come after those with a name: from `low` to `high` of them, None for no limit."""

    pair: str
    low: int
    high: int | None


def members(rules: Rules, comma: str, parts: list[tuple[str, bool]], extra: Extra | None) -> str:
    """An expression for pairs with commas between them; `parts` are (rule, whether it is required)."""
    if extra is not None and extra.high == 0:
        extra = None
    after = [times(rules.add("more", f"{comma} {extra.pair}"), extra.low, extra.high) if extra else ""]
    for rule, is_required in reversed(parts):  # what may follow each pair, from the last one on
        follows = f"{comma} {rule}" if is_required else f"({comma} {rule})?"
        after.append(rules.add("rest", " ".join(filter(None, (follows, after[-1])))))
    after.reverse()
    choices: list[str | None] = []
    for index, (rule, is_required) in enumerate(parts):
        choices.append(then(rule, after[index + 1]))
        if is_required:
            return either(choices) or ""
    if extra is None:
        return maybe(either(choices))
    more = rules.add("more", f"{comma} {extra.pair}")
    again = "" if extra.high == 1 else times(more, max(0, extra.low - 1), extra.high and extra.high - 1)
    choices.append(then(extra.pair, again))
    return (either(choices) or "") if extra.low else maybe(either(choices))


def other_than(names: list[str], rules: Rules) -> str:
    """An expression for the content of a JSON string that is none of `names`. It has no escapes, which could be one."""
    following: dict[str, list[str]] = {}
    for name in names:
        if name:
            following.setdefault(name[0], []).append(name[1:])
    any_character = rules.add("plain-char", as_class(UNESCAPED) or "")
    other = then(as_class(minus(UNESCAPED, of("".join(following)))), f"{any_character}*")
    deeper = [
        then(as_class(of(first)), other_than(rest, rules))
        for first, rest in following.items()
        if not minus(of(first), UNESCAPED)
    ]
    found = rules.add("other", either([*deeper, other]) or "")
    return found if "" in names else f"{found}?"
