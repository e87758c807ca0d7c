"""The models on this machine and the catalogue of those worth having: from a name to a file.

Knows where model files lie and what they are called, never what is inside them.
"""

from __future__ import annotations

from localllm.library.catalog import DEFAULT, Entry, load_catalog
from localllm.library.shelf import names, resolve

__all__ = ["DEFAULT", "Entry", "load_catalog", "names", "resolve"]
