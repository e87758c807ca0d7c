"""The names of the architectures that llama.cpp runs, for messages on one that it does not know."""

from __future__ import annotations


def names() -> list[str]:
    """Those that the package `gguf` lists; none where it is not installed, for it comes with the extra `convert`."""
    try:
        import gguf
    except ImportError:
        return []
    return sorted(set(gguf.MODEL_ARCH_NAMES.values()))


def nearest(name: str) -> list[str]:
    """Up to three with names near to `name`, the nearest first: itself, if there is one of that name."""
    import difflib

    return difflib.get_close_matches(name, names(), n=3, cutoff=0.6)


def told(near: list[str]) -> str:
    """A sentence on what is near, with a blank behind it; empty if nothing is."""
    return f"Nearest known: {', '.join(near)}. " if near else ""
