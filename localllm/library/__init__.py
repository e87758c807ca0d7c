"""The models on this machine, the catalogue of those worth having, and the hub: from a name to files.

Knows where model files lie and what they are called, never what is inside them. A part is imported when it is used: to
load a file by its path, the catalogue need not be read first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localllm.library.catalog import DEFAULT, Entry, load_catalog
    from localllm.library.naming import known_names
    from localllm.library.recommended import as_recommended
    from localllm.library.shelf import find, knows, resolve
    from localllm.library.sources import is_repo_name, open_source

__all__ = [
    "DEFAULT",
    "Entry",
    "as_recommended",
    "find",
    "is_repo_name",
    "known_names",
    "knows",
    "load_catalog",
    "open_source",
    "resolve",
]

_HOME = {
    "DEFAULT": "catalog",
    "Entry": "catalog",
    "load_catalog": "catalog",
    "known_names": "naming",
    "as_recommended": "recommended",
    "find": "shelf",
    "knows": "shelf",
    "resolve": "shelf",
    "is_repo_name": "sources",
    "open_source": "sources",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"localllm.library.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
