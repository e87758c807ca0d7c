"""`localllm config`: what is set, where, and what it means; set, unset, edit."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localllm.settings.schema import GROUPS, KEYS

if TYPE_CHECKING:
    from localllm.settings.reading import Loaded

EPILOG = f"""examples:
  localllm config                           every key, what it is set to, and where
  localllm config set default_model qwen3:4b
  localllm config set temperature 0.6
  localllm config get ctx
  localllm config unset ctx                 the default again
  localllm config edit                      the file in $VISUAL or $EDITOR

Each key has an environment variable: LOCALLLM_ and its name in capitals, LOCALLLM_CTX for ctx. A flag of a command goes
before the environment, that before the file, and that before the default. Python programs that load a model take
default_model and models from here, and nothing else.

keys:
{os.linesep.join(f"  {key.name:<18} {key.meaning}" for key in KEYS.values())}
"""


def _name(text: str) -> str:
    """A key, in any case and with - for _."""
    name = text.lower().replace("-", "_")
    if name not in KEYS:
        from localllm.settings.reading import nearest

        raise argparse.ArgumentTypeError(f"there is no setting {text!r}. {nearest(text)}")
    return name


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `config` command."""
    parser = commands.add_parser(
        "config",
        help="show and change your settings",
        description="Show and change the settings that count where a flag is left out.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = ("list", "get", "set", "unset", "edit", "path")
    parser.add_argument("action", nargs="?", choices=actions, default="list", help="what to do (default: list)")
    parser.add_argument("key", nargs="?", type=_name, choices=tuple(KEYS), metavar="KEY", help="a key; see below")
    parser.add_argument(
        "value", nargs="?", metavar="VALUE", help=f"what to set it to; folders with {os.pathsep} between"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handle=handle, usage_error=parser.error)


def handle(args: argparse.Namespace) -> int:
    """Do it."""
    needs = {"get": ("key",), "unset": ("key",), "set": ("key", "value")}.get(args.action, ())
    for name in ("key", "value"):
        if (getattr(args, name) is None) == (name in needs):
            args.usage_error(
                f"`{args.action}` needs {' and '.join(name.upper() for name in needs) or 'neither KEY nor VALUE'}"
            )
    done: dict[str, object] = {"list": _list, "get": _get, "set": _set, "unset": _unset, "edit": _edit, "path": _path}[
        args.action
    ](args)
    if args.json:
        import json

        print(json.dumps(done))
    return 0


def _list(args: argparse.Namespace) -> dict[str, object]:
    from localllm import paths
    from localllm.settings import load
    from localllm.settings.reading import unknown_variables

    loaded = load()
    for name, near in unknown_variables():
        hint = f"; did you mean {near}?" if near else ""
        print(f"note: {name} in the environment is no setting{hint}", file=sys.stderr)
    if not args.json:
        print("\n\n".join(_table(group, loaded) for group in GROUPS))
    return {"path": str(paths.settings_file()), "settings": {name: _as_json(name, loaded) for name in KEYS}}


def _table(group: str, loaded: Loaded) -> str:
    rows = []
    # A longer value, such as many folders, does not push all others to the right.
    width = min(max(len(shown(name, loaded)) for name in KEYS), 28)
    for key in KEYS.values():
        if key.group == group:
            source = loaded.sources.get(key.name, "default")
            rows.append(f"{key.name:<18} {shown(key.name, loaded):<{width}}  {source:<12} {key.meaning}")
    return "\n".join(rows)


def shown(name: str, loaded: Loaded) -> str:
    """The value of a key as people write it."""
    if name not in loaded.written:
        return KEYS[name].otherwise
    value = loaded.written[name]
    return os.pathsep.join(value) if isinstance(value, list) else str(value)


def _as_json(name: str, loaded: Loaded) -> dict[str, object]:
    key = KEYS[name]
    return {
        "value": loaded.written.get(name),
        "source": loaded.sources.get(name, "default"),
        "default": key.otherwise,
        "variable": key.variable,
        "meaning": key.meaning,
    }


def _get(args: argparse.Namespace) -> dict[str, object]:
    from localllm.settings import load

    loaded = load()
    if not args.json:
        print(shown(args.key, loaded))
    return {"key": args.key, **_as_json(args.key, loaded)}


def _set(args: argparse.Namespace) -> dict[str, object]:
    from localllm import paths
    from localllm.settings.writing import change

    value = KEYS[args.key].kind.from_text(args.value)
    change(args.key, value)
    if not args.json:
        print(f"{args.key} is {args.value} from now on, in {paths.settings_file()}", file=sys.stderr)
    return _changed(args.key, value)


def _unset(args: argparse.Namespace) -> dict[str, object]:
    from localllm import paths
    from localllm.settings.writing import change

    change(args.key, None)
    if not args.json:
        default = KEYS[args.key].otherwise
        print(f"{args.key} is the default, {default}, again, in {paths.settings_file()}", file=sys.stderr)
    return _changed(args.key, None)


def _changed(name: str, value: Any) -> dict[str, object]:
    """What was done; a note if it has no effect."""
    variable = KEYS[name].variable
    if os.environ.get(variable):
        print(f"note: {variable} in the environment goes before it", file=sys.stderr)
    return {"key": name, "value": value}


def _path(args: argparse.Namespace) -> dict[str, object]:
    from localllm import paths

    if not args.json:
        print(paths.settings_file())
    return {"path": str(paths.settings_file())}


def _edit(_: argparse.Namespace) -> dict[str, object]:
    """Let the person edit a copy, which becomes the file once it has no mistake."""
    from localllm import paths
    from localllm.errors import BadSettings
    from localllm.settings import writing

    path, before = paths.settings_file(), writing.text_now()
    draft = writing.draft_of(before)
    for other in writing.drafts():
        if other != draft:
            print(f"note: {other} is an unfinished edit of what the settings were before", file=sys.stderr)
    # What was wrong the last time is still there to be mended.
    if not draft.is_file():
        writing.write_draft(draft, before or writing.template())
    _run_editor(draft)
    try:
        writing.replace_all(writing.read_text(draft), before)
    except BadSettings as error:
        raise BadSettings(
            error.message,
            hint=f"The settings are as they were. `localllm config edit` goes on with what you wrote: {draft}",
        ) from error
    draft.unlink()
    return {"path": str(path)}


def _run_editor(file: Path) -> None:
    from localllm.errors import LocalLLMError

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        code = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode
    except OSError as error:
        raise LocalLLMError(
            f"The editor {editor!r} cannot be started: {error.strerror}.", hint="Name one in VISUAL or EDITOR."
        ) from error
    if code:
        raise LocalLLMError(f"The editor {editor!r} ended with exit code {code}; nothing was changed.")
