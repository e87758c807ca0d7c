"""The progress bar of commands that go through a model: how much per second, the time left, what comes from the hub."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

    from localllm.convert.files import Files

_INTERVAL = 1.0


class Bar:
    """A bar on stderr, drawn from the first call of `update` on. A context manager: leaving it ends the line.

    A `passing` bar is of something that nobody waits for: it is drawn when that has taken a second, and goes away.
    """

    def __init__(self, source: Path | Files | None, unit: str = " weights", *, passing: bool = False) -> None:
        self._unit = unit
        self._passing = passing
        self._received = None if source is None or isinstance(source, Path) else source.received
        self._bar: tqdm[NoReturn] | None = None
        self._seen: tuple[float, int] | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, done: int, total: int) -> None:
        """Show the units done and in all."""
        from tqdm import tqdm

        if self._bar is None:
            # What an earlier run did is no work of this one: the rate leaves it out.
            self._bar = tqdm(
                total=total,
                initial=done,
                unit=self._unit,
                unit_scale=True,
                file=sys.stderr,
                dynamic_ncols=True,
                leave=not self._passing,
                delay=_INTERVAL if self._passing else 0,
            )
        self._show_download(self._bar)
        self._bar.update(done - self._bar.n)

    def _show_download(self, bar: tqdm[NoReturn]) -> None:
        """Megabytes per second since it was last said."""
        if self._received is None:
            return
        now, has = time.monotonic(), self._received()
        before, had = self._seen = self._seen or (now, has)
        if has and now - before >= _INTERVAL:
            bar.set_postfix_str(f"{(has - had) / (now - before) / 1e6:.1f} MB/s from the hub", refresh=False)
            self._seen = (now, has)
