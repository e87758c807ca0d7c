"""Who is writing a reply: a mark that other apps can check, so that a living app's reply is not taken for abandoned.

Knows processes, and nothing of chats.
"""

from __future__ import annotations

import os


def this_process() -> str:
    """The mark of this process: its number, and when it began, which tells it from a later one with that number."""
    import psutil

    return f"{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_alive(mark: str) -> bool:
    """Whether the process that left this mark still runs."""
    import psutil

    pid, _, created = mark.partition(":")
    try:
        process = psutil.Process(int(pid))
        # A zombie ended, and waits only for whoever started it.
        return f"{process.create_time():.2f}" == created and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False
