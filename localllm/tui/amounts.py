"""Numbers as people read them: bytes, tokens, seconds, rates, dates, bars. Knows nothing of what they count."""

from __future__ import annotations

import time

from localllm.chat import moments

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: int) -> str:
    """Bytes in the largest binary unit that keeps the number above one: `98.9 MiB`."""
    amount, unit = float(count), 0
    while abs(amount) >= 1024 and unit < len(UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    if unit == 0:
        return f"{count} B"
    return f"{amount:.2f} {UNITS[unit]}" if amount < 10 and unit > 2 else f"{amount:.1f} {UNITS[unit]}"


def tokens(count: int) -> str:
    """A count with its thousands apart: `1,024`."""
    return f"{count:,}"


def seconds(duration: float) -> str:
    """A duration with as many digits as matter: `0.12 s`, `3.4 s`, `1 min 05 s`."""
    if duration < 1:
        return f"{duration:.2f} s"
    if duration < 59.95:
        return f"{duration:.1f} s"
    return f"{int(duration) // 60} min {int(duration) % 60:02d} s"


def rate(per_second: float) -> str:
    """Tokens per second: `34.1 tok/s`."""
    return f"{per_second:.0f} tok/s" if per_second >= 100 else f"{per_second:.1f} tok/s"


def day(moment: float, now: float) -> str:
    """When something was: the time today, else the date, with the year if it was another."""
    then, today = moments.local(moment), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    return time.strftime("%d %b" if then.tm_year == today.tm_year else "%Y-%m-%d", then)


def bar(part: float, whole: float, width: int) -> tuple[str, str]:
    """A bar of `width` columns, as what is filled and what is not; they differ without colour too."""
    share = min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0
    filled = round(share * width)
    if share > 0:
        filled = max(1, filled)
    return "━" * filled, "─" * (width - filled)
