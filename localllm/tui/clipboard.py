"""Text to the clipboard by a program of this desktop, where there is one and the person sits at it.

Over ssh the terminal has to do it (OSC 52), because the programs here would fill a clipboard that nobody sees.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

PATIENCE_S = 2.0


def native_command(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> list[str] | None:
    """The program that takes the text on its stdin, or None."""
    if environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"):
        return None
    choices: list[list[str]] = []
    if platform == "darwin":
        choices.append(["pbcopy"])
    if environ.get("WAYLAND_DISPLAY"):
        choices.append(["wl-copy"])
    if environ.get("DISPLAY"):
        choices += [["xclip", "-selection", "clipboard"], ["xsel", "--clipboard", "--input"]]
    if environ.get("WSL_DISTRO_NAME"):
        choices.append(["clip.exe"])
    path = environ.get("PATH")
    return next((command for command in choices if shutil.which(command[0], path=path)), None)


def copy(command: list[str], text: str) -> bool:
    """Give `text` to the program. Whether it took it; blocks for two seconds at most."""
    data = text.encode("utf-16-le" if command[0] == "clip.exe" else "utf-8", "replace")
    try:
        done = subprocess.run(
            command,
            input=data,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
