"""What is typed into a plain chat, in a terminal, with Python's own `readline`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.terminal import drain, until

PROGRAM = """
import sys
from localllm.cli.plain_lines import Lines
lines = Lines(sys.stdin, interactive=True)
lines.edit_with(["an earlier one", "with a NUL \\0", "of no UTF-8 \\ud800"])
for message in lines.messages():
    print(f"<{ascii(message)}>")
"""


@contextmanager
def typing(folder: Path) -> Iterator[tuple[int, bytearray]]:
    """A terminal where messages are read and said again, and all that it showed."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "INPUTRC": os.devnull, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM]
    program = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment, start_new_session=True
    )
    os.close(theirs)
    shown = bytearray()
    threading.Thread(target=drain, args=(ours, shown), daemon=True).start()
    try:
        until(lambda: b"You: " in shown, "the prompt")
        yield ours, shown
    finally:
        program.kill()
        program.wait()
        os.close(ours)


def test_tab_completes_commands_and_paths_and_keeps_what_was_typed(tmp_path: Path) -> None:
    for name in ("Draft.md", "data one.csv"):
        (tmp_path / name).write_text("x")
    with typing(tmp_path) as (terminal, shown):
        os.write(terminal, b"see @dr\tand @d\t\tx\r")
        until(lambda: b"<'see @Draft.md and @dx'>" in shown, "the message")
        assert b"@data one.csv" in shown
        os.write(terminal, b"/ret\t\r")
        until(lambda: b"<'/retry'>" in shown, "the command")
        os.write(terminal, b'"""\r/ret\t\r"""\r')
        until(lambda: b"<'/ret'>" in shown, "the message of several lines")


def test_up_gives_earlier_messages_without_those_that_no_line_can_hold(tmp_path: Path) -> None:
    with typing(tmp_path) as (terminal, shown):
        os.write(terminal, b"\x1b[A\r")
        until(lambda: b"<'an earlier one'>" in shown, "the earlier message")
