"""Pictures of screens as text, kept beside the tests, so that a change of what people see is seen in review.

`PICTURES=new pytest tests/tui/test_pictures.py` takes them anew; look at the difference before it is kept.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

import pytest

from tests.tui.driving import Driver, screen_text

FOLDER = Path(__file__).with_name("pictures")
_TIME = re.compile(r"\b\d\d:\d\d\b")


def check(pilot: Driver, name: str) -> None:
    """Compare the screen with the picture `name`; fail with the lines that differ."""
    text = _TIME.sub("hh:mm", screen_text(pilot)) + "\n"
    path = FOLDER / f"{name}-{pilot.app.size.width}.txt"
    if os.environ.get("PICTURES") == "new":
        path.write_text(text, encoding="utf-8")
    kept = path.read_text(encoding="utf-8") if path.exists() else ""
    if text != kept:
        lines = difflib.unified_diff(kept.splitlines(), text.splitlines(), str(path.name), "now", lineterm="")
        pytest.fail("\n".join(["The screen has changed:", *lines]))
