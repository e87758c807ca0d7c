"""The models on this machine, the catalogue of those worth having, and the hub: from a name to files.

Knows where model files lie and what they are called, never what is inside them.
"""

from __future__ import annotations

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
