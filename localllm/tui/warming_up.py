"""What is done behind the first picture, so that the first reply does not wait for it."""

from __future__ import annotations

import gc
from collections.abc import Callable

from localllm.tui import background, markdown


def start_warming_up(crashed: Callable[[BaseException], object], *, stays: bool) -> None:
    """Begin, in a thread. Where the process `stays` this app's, it collects garbage from then on."""

    def warm_up() -> None:
        markdown.warm_up()
        if stays:
            # What is imported stays. Walking over it in each full collection would stop the app for 40 ms.
            gc.freeze()
            gc.enable()

    background.start(warm_up, "warm up", crashed)
