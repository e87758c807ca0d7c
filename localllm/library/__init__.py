"""The models on this machine, the catalogue of those worth having, and the hub: from a name to files.

Knows where model files lie and what they are called, never what is inside them.
"""

from __future__ import annotations

from localllm.library.catalog import DEFAULT, Entry, load_catalog
from localllm.library.shelf import names, resolve
from localllm.library.sources import is_repo_name, open_source

__all__ = ["DEFAULT", "Entry", "is_repo_name", "load_catalog", "names", "open_source", "resolve"]
