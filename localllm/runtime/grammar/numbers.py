"""Numbers between two bounds as GBNF: digit by digit, for integers and decimal fractions.

A number is written without an exponent, and with as many digits as a double holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from localllm.runtime.grammar.rules import either, literal, then, times

DIGITS = 15
"""Digits that every double holds."""

ANY_NUMBER = '"-"? ("0" | [1-9] [0-9]{0,14}) ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?'


@dataclass(frozen=True)
class Bounds:
    """From `low` to `high`, None for no bound; those that are `open` are left out."""

    low: Decimal | None = None
    high: Decimal | None = None
    low_open: bool = False
    high_open: bool = False


def integers(bounds: Bounds) -> str | None:
    """An expression for the integers within `bounds`; None if there are none."""
    low, high = bounds.low, bounds.high
    if low is not None:
        low = low.to_integral_value(ROUND_CEILING) + (1 if bounds.low_open and low == low.to_integral_value() else 0)
    if high is not None:
        high = high.to_integral_value(ROUND_FLOOR) - (1 if bounds.high_open and high == high.to_integral_value() else 0)
    return _integers(None if low is None else int(low), None if high is None else int(high))


def _integers(low: int | None, high: int | None) -> str | None:
    choices = []
    if high is None or high >= 0:
        choices.append(_natural(max(low or 0, 0), high))
    if low is None or low < 0:
        most = None if low is None else -low
        choices.append(then(literal("-"), _natural(1 if high is None or high >= 0 else -high, most)))
    return either(choices)


def _natural(low: int, high: int | None) -> str | None:
    """The numbers from `low` to `high`, which are not negative."""
    length = len(str(low))
    if high is None:
        longer = then("[1-9]", times("[0-9]", length, max(length, DIGITS - 1)))
        return either([_natural(low, 10**length - 1), longer])
    if low > high:
        return None
    choices = []
    for digits in range(length, len(str(high)) + 1):
        first, last = max(low, 10 ** (digits - 1) if digits > 1 else 0), min(high, 10**digits - 1)
        choices.append(_between(str(first), str(last)))
    return either(choices)


def _between(low: str, high: str) -> str:
    """Numbers of one length, from `low` to `high`."""
    if low == high:
        return literal(low) if low else ""
    if low[0] == high[0]:
        return f"{literal(low[0])} {_between(low[1:], high[1:])}"
    first, last, rest = int(low[0]), int(high[0]), len(low) - 1
    choices: list[str | None] = []
    if set(low[1:]) - {"0"}:
        choices.append(then(literal(low[0]), _at_least(low[1:])))
        first += 1
    if set(high[1:]) - {"9"}:
        choices.append(then(literal(high[0]), _at_most(high[1:])))
        last -= 1
    if first <= last:
        choices.append(then(_digit(first, last), times("[0-9]", rest, rest) if rest else ""))
    return either(choices) or ""


def _at_least(low: str) -> str | None:
    rest = len(low) - 1
    if not set(low) - {"0"}:
        return times("[0-9]", len(low), len(low)) if low else ""
    above = then(_digit(int(low[0]) + 1, 9), times("[0-9]", rest, rest) if rest else "")
    return either([above, then(literal(low[0]), _at_least(low[1:]))])


def _at_most(high: str) -> str | None:
    rest = len(high) - 1
    if not set(high) - {"9"}:
        return times("[0-9]", len(high), len(high)) if high else ""
    below = then(_digit(0, int(high[0]) - 1), times("[0-9]", rest, rest) if rest else "")
    return either([below, then(literal(high[0]), _at_most(high[1:]))])


def _digit(low: int, high: int) -> str | None:
    return None if low > high else f"[{low}]" if low == high else f"[{low}-{high}]"


def decimals(bounds: Bounds) -> str | None:
    """An expression for the numbers within `bounds`, or many of them where they have more digits; None for none."""
    if bounds.low is None and bounds.high is None:
        return ANY_NUMBER
    zero = Decimal(0)
    choices = []
    if bounds.high is None or bounds.high > 0 or (bounds.high == 0 and not bounds.high_open):
        low, low_open = (bounds.low, bounds.low_open) if bounds.low is not None and bounds.low >= 0 else (zero, False)
        choices.append(_positive(Bounds(low, bounds.high, low_open, bounds.high_open)))
    if bounds.low is None or bounds.low < 0:
        inside = bounds.high is not None and bounds.high < 0
        least, least_open = (-bounds.high, bounds.high_open) if inside and bounds.high is not None else (zero, True)
        most = None if bounds.low is None else -bounds.low
        choices.append(then(literal("-"), _positive(Bounds(least, most, least_open, bounds.low_open))))
    return either(choices)


def _positive(bounds: Bounds) -> str | None:
    whole, part = _split(bounds.low or Decimal(0))
    if bounds.high is None:
        above = then(_natural(whole + 1, None), _FRACTION)
        return either([then(literal(str(whole)), _from(part, bounds.low_open)), above])
    most, end = _split(bounds.high)
    if whole > most:
        return None
    if whole == most:
        exact = "" if not part and not bounds.low_open and (end or not bounds.high_open) else None
        inner = _within(part, end, bounds)
        return then(literal(str(whole)), either([exact, then(literal("."), inner)]) if inner or exact == "" else None)
    middle = then(_natural(whole + 1, most - 1), _FRACTION)
    up_to = then(literal(str(most)), _to(end, bounds.high_open))
    return either([then(literal(str(whole)), _from(part, bounds.low_open)), middle, up_to])


_FRACTION = f'("." [0-9]{{1,{DIGITS}}})?'
_MORE = f"[0-9]{{0,{DIGITS}}}"
_NOT_ZERO = f'"0"{{0,{DIGITS}}} [1-9] {_MORE}'


def _split(number: Decimal) -> tuple[int, str]:
    """The whole part, and the digits behind the point without zeros at the end."""
    whole = int(number)
    return whole, format(number - whole, "f").partition(".")[2].rstrip("0")


def _from(part: str, is_open: bool) -> str | None:
    """A fraction, or none, that is at least 0.`part`."""
    if not part and not is_open:
        return _FRACTION
    return then(literal("."), _digits_from(part, is_open))


def _digits_from(part: str, is_open: bool) -> str | None:
    if not part:
        return _NOT_ZERO if is_open else _MORE
    above = then(_digit(int(part[0]) + 1, 9), _MORE)
    return either([above, then(literal(part[0]), _digits_from(part[1:], is_open))])


def _to(part: str, is_open: bool) -> str | None:
    """A fraction, or none, that is at most 0.`part`."""
    if not part:
        return None if is_open else '("." "0")?'
    return f'("." {_digits_to(part, is_open)})?'


def _digits_to(part: str, is_open: bool) -> str | None:
    below = then(_digit(0, int(part[0]) - 1), _MORE)
    if len(part) == 1:
        return either([below, None if is_open else literal(part)])
    rest = _digits_to(part[1:], is_open)
    return either([below, then(literal(part[0]), f"({rest})?" if rest else "")])


def _within(low: str, high: str, bounds: Bounds) -> str | None:
    """Digits behind the point from 0.`low` to 0.`high`."""
    if low == high:
        return None if bounds.low_open or bounds.high_open else literal(low or "0")
    first, last = int(low[:1] or 0), int(high[:1] or 0)
    if first > last or not high:
        return None
    if first == last:
        return then(literal(str(first)), _within(low[1:], high[1:], bounds))
    rest = _digits_to(high[1:], bounds.high_open) if high[1:] else None
    up_to = f"({rest})?" if rest else None if bounds.high_open and not high[1:] else ""
    return either(
        [
            then(literal(str(first)), _digits_from(low[1:], bounds.low_open)),
            then(_digit(first + 1, last - 1), _MORE),
            then(literal(str(last)), up_to),
        ]
    )
