#!/usr/bin/env python3
"""Makes docs/settings.md: every setting with its default, its environment variable and what it may be.

python tools/settings_page.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A script finds only its own folder by itself.
sys.path.insert(0, str(ROOT))

from localllm.settings.schema import GROUPS, KEYS

PATH = ROOT / "docs" / "settings.md"

HEAD = """\
# Settings

Made by `tools/settings_page.py`.

What you would otherwise give as a flag each time goes into one TOML file. `localllm config path` says where it is:
`settings.toml` in the folder that the system has for configuration (`~/.config/localllm` on Linux), or in the one
that `LOCALLLM_HOME` names. Every key may be left out, and so may the file.

```toml
default_model = "qwen3:4b"
models = ["/data/models"]   # searched before all others
ctx = 16384
temperature = 0.6
```

`localllm config` lists every key with its value and where that comes from, `localllm config set KEY VALUE` and
`localllm config unset KEY` change one and keep your comments, and `localllm config edit` opens the file in your editor,
and takes what you wrote once it has no mistake. With `--json` each prints one JSON object.

What counts, first match first:

1. the flag of the command, `--ctx 4096`,
2. the environment variable, `LOCALLLM_CTX=4096`, if it is not empty,
3. the file,
4. the default.

A mistake is never passed by: a key that there is not, a value of the wrong kind or out of range ends the command, with
the line and the key, or the variable. A file with a mistake is not written over. `localllm config set` holds a lock, so
that two of them at once lose nothing of each other.

Python programs take `default_model` and `models` from here: which models there are is a matter of the machine, and a
program that names no model leaves the choice to the person. How a model is loaded and how it samples is for the program
to say, and not for what somebody set for their own chats: the same program does the same for everybody.
"""


def page() -> str:
    """The whole file."""
    return "\n".join([HEAD, *_tables()])


def _tables() -> Iterator[str]:
    for group, about in GROUPS.items():
        yield from [f"## {group.capitalize()}", "", about, ""]
        yield "| key | default | environment | may be | |"
        yield "| --- | --- | --- | --- | --- |"
        for key in KEYS.values():
            if key.group == group:
                meaning = key.meaning.replace("|", "\\|")
                yield f"| `{key.name}` | {key.otherwise} | `{key.variable}` | {key.kind.said} | {meaning} |"
        yield ""


def main() -> int:
    PATH.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
