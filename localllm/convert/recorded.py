"""With which settings a file was made, as it says itself under `localllm.settings`: written, and read again.

Only what is not the default and is not told elsewhere in the file: the type and the importance matrix have keys of
their own. Of the keys that a person set it tells the names.
"""

from __future__ import annotations

import json
import re
from typing import Any

from localllm.convert.header import Keys, text
from localllm.convert.settings import Settings
from localllm.gguf_file import Header

_KEY, _VERSION = "localllm.settings", "localllm.version"
_TYPES, _FLAGS = ("output_type", "embedding_type"), ("pure", "exact_source")
_TOLD = ("tensor_types", *_TYPES, *_FLAGS, "prune_layers")


def settings_keys(settings: Settings) -> Keys:
    """The key, or none where all is as by default."""
    told = _told(settings)
    return {_KEY: text(json.dumps(told, sort_keys=True))} if told else {}


def requantized_keys(keys: Keys, settings: Settings) -> Keys:
    """The keys of a GGUF that is quantized anew: what it says of the first time, and what was set this time.

    Where layers were left out both times, which ones they were in the beginning is not told any longer.
    """
    told = _told(settings)
    if _VERSION not in keys or not told:
        return keys
    try:
        before = dict(json.loads(keys[_KEY].value)) if _KEY in keys else {}
    except (ValueError, TypeError):
        before = {}
    if "prune_layers" in before and "prune_layers" in told:
        return {name: value for name, value in keys.items() if name not in (_KEY, _VERSION)}
    told["metadata"] = sorted({*before.get("metadata", ()), *told.get("metadata", ())})
    return {**keys, _KEY: text(json.dumps({**before, **told}, sort_keys=True))}


def recorded_settings(header: Header) -> tuple[Settings | None, frozenset[str]]:
    """With which settings a file says that it was made, apart from its type, and which keys a person set in it.

    None where it says nothing, or something that is not understood.
    """
    if _VERSION not in header.metadata:
        return None, frozenset()
    try:
        return _understood(json.loads(str(header.get(_KEY, "{}"))))
    except (ValueError, TypeError, AttributeError, re.error):
        return None, frozenset()


def _told(settings: Settings) -> dict[str, Any]:
    told = {name: getattr(settings, name) for name in _TOLD if getattr(settings, name) != getattr(Settings(), name)}
    return told | ({"metadata": sorted({key for key, _ in settings.metadata})} if settings.metadata else {})


def _understood(told: dict[str, Any]) -> tuple[Settings | None, frozenset[str]]:
    """The settings; a file may hold anything, so each is checked."""
    keys = frozenset(str(key) for key in told.get("metadata", ()))
    pairs = tuple((str(pattern), str(kind)) for pattern, kind in told.get("tensor_types", ()))
    for pattern, _ in pairs:
        re.compile(pattern)
    layers = tuple(int(layer) for layer in told.get("prune_layers", ()))
    for names, kind in ((_TYPES, str), (_FLAGS, bool)):
        for name in names:
            if not isinstance(told.get(name, kind()), kind):
                raise TypeError(name)
    values = {name: told[name] for name in (*_TYPES, *_FLAGS) if name in told}
    known = told.keys() <= {*_TOLD, "metadata"}
    return (Settings(tensor_types=pairs, prune_layers=layers, **values) if known else None), keys
