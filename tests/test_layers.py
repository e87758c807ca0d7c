"""The layer rule: imports point only downward, and each outside package has one door.

    cli  tui  serve                     cli starts the other two
    api                                 the public Python interface
    chat  measure  library
    convert  runtime
    native  gguf_file  chat_template    native knows the format's numbers
    settings                            what a person prefers
    errors  paths  toml_lines  small_files  counts

Every import counts: at the top, in a function, under TYPE_CHECKING, and `import_module("…")`.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "localllm"

LAYERS = (
    ("errors", "paths", "toml_lines", "small_files", "counts"),
    ("settings",),
    ("native", "gguf_file", "chat_template"),
    ("convert", "runtime"),
    ("chat", "measure", "library"),
    ("api",),
    ("cli", "tui", "serve"),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
SIDEWAYS = {("cli", "tui"), ("cli", "serve"), ("native", "gguf_file")}

DOORS = {
    "llama_cpp": "native",
    "textual": "tui",
    "huggingface_hub": "library",
    "requests": "library",
    "httpx": "library",
    "torch": None,
    "transformers": None,
}
"""Packages that only one part may import; None: no part may."""

HEAVY = ["gguf", "jinja2", "llama_cpp", "numpy", "psutil", "textual", "tokenizers", "huggingface_hub", "tomlkit"]

NOT_BEFORE_A_LOAD = ["asyncio", "concurrent", "hashlib", "importlib.metadata", "logging", "shutil", "socket", "tomllib"]
"""What no load needs before llama.cpp reads the weights: each takes milliseconds to import."""


def imports(tree: ast.Module, package: str) -> Iterator[str]:
    """The dotted names that a module imports; `package` is the package that it is in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "import_module":
            yield from (str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def violations(path: str, source: str) -> list[str]:
    """What the module at `path` (inside localllm/) imports against the rule."""
    parts = Path(path).with_suffix("").parts
    part = parts[0]
    found = []
    for name in imports(ast.parse(source), ".".join(["localllm", *parts[:-1]])):
        top, _, rest = name.partition(".")
        if top == "localllm":
            target = rest.split(".")[0]
            if not may_import(part, target):
                found.append(f"{path}: {part} must not import {name}")
        elif top in DOORS and DOORS[top] != part:
            found.append(f"{path}: only {DOORS[top] or 'tests'} may import {top}")
    return found


def may_import(part: str, target: str) -> bool:
    if part in ("__init__", "__main__"):
        return True
    if target == "__version__":
        return True
    if target not in RANK:
        # The package itself: its public names come from `api`.
        return RANK[part] > RANK["api"]
    return part == target or RANK[part] > RANK[target] or (part, target) in SIDEWAYS


MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES)
def test_imports_point_downward(path: str) -> None:
    assert violations(path, (PACKAGE / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", MODULES)
def test_every_module_belongs_to_a_layer(path: str) -> None:
    part = Path(path).with_suffix("").parts[0]
    assert part in RANK or path in ("__init__.py", "__main__.py")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("errors.py", "from localllm import paths"),
        ("gguf_file/reader.py", "import localllm.native.lib"),
        ("chat_template.py", "from localllm.runtime.types import Message"),
        ("runtime/model.py", "from localllm.convert import writer"),
        ("convert/writer.py", "def f():\n    from localllm.runtime import plan"),
        ("runtime/model.py", "from ..chat.store import Store"),
        ("runtime/model.py", "if TYPE_CHECKING:\n    from localllm.tui.app import App"),
        ("runtime/model.py", "import_module('localllm.library.shelf')"),
        ("library/shelf.py", "from localllm import load"),
        ("tui/app.py", "from localllm.cli import main"),
        ("runtime/model.py", "import llama_cpp.llama_cpp as bindings"),
        ("runtime/model.py", "importlib.import_module('llama_cpp')"),
        ("cli/chat.py", "from textual.app import App"),
        ("convert/checkpoint.py", "def f():\n    import torch"),
    ],
)
def test_the_rule_catches(path: str, source: str) -> None:
    assert violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cli/chat.py", "def f():\n    from localllm.tui.app import ChatApp"),
        ("cli/run.py", "import localllm"),
        ("runtime/model.py", "from .types import Options"),
        ("runtime/model.py", "from ..native import lib"),
        ("native/lib.py", "import llama_cpp"),
        ("library/hub.py", "from huggingface_hub import HfApi"),
        ("convert/writer.py", "from localllm import __version__"),
        ("cli/main.py", "from localllm import __version__"),
    ],
)
def test_the_rule_allows(path: str, source: str) -> None:
    assert violations(path, source) == []


@pytest.mark.parametrize("module", ["localllm", "localllm.cli.main", "localllm.library"])
def test_light_modules_import_nothing_heavy(module: str) -> None:
    assert sorted({name.partition(".")[0] for name in imported_by(module)} & set(HEAVY)) == []


def test_what_a_load_begins_with_imports_little() -> None:
    assert sorted(set(imported_by("localllm.api")) & {*HEAVY, *NOT_BEFORE_A_LOAD}) == []


def imported_by(module: str) -> list[str]:
    """All modules that a new process has once it has imported this one."""
    code = f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found
