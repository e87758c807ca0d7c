"""Layers left out: `--prune-layers`. What stays is numbered anew, as llama-quantize does it.

Knows how tensors of a layer are called and which keys hold a value per layer; not what a layer does for the model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from localllm.convert.header import Keys, u32
from localllm.errors import UnsupportedModel

_LAYER = re.compile(r"blk\.(\d+)\.")
_ARRAY = 9

_BY_NUMBER = ("gemma2", "gemma3", "gemma-embedding")
"""Architectures of which llama.cpp knows by itself which layers slide a window."""


def kept_names(names: Iterable[str], keys: Keys, layers: Collection[int]) -> dict[str, str]:
    """The new name of every tensor that stays, by its name before, in the same order. `keys` are the model's.

    Raises:
        UnsupportedModel: the model has no such layer, or none would be left.
    """
    if not layers:
        return {name: name for name in names}
    block_count = _block_count(keys)
    missing = sorted(layer for layer in layers if not 0 <= layer < block_count)
    if missing or len(set(layers)) >= block_count:
        what = f"It has no layer {missing[0]}" if missing else "No layer would be left"
        raise UnsupportedModel(
            f"{what}: the model has {block_count} layers, 0 to {block_count - 1}.",
            hint="--prune-layers 20,21,22 leaves three of them out.",
        )
    numbers = {layer: new for new, layer in enumerate(layer for layer in range(block_count) if layer not in layers)}
    kept = {}
    for name in names:
        found = _LAYER.match(name)
        if found is None:
            kept[name] = name
        elif int(found.group(1)) in numbers:
            kept[name] = f"blk.{numbers[int(found.group(1))]}.{name[found.end() :]}"
    return kept


def pruned_keys(keys: Keys, layers: Collection[int]) -> Keys:
    """What is written for the model without these layers: the number of layers goes last, as in llama-quantize.

    Raises:
        UnsupportedModel: a key holds a value per layer: which ones stay would have to be guessed. Or what a layer is
            follows from its number.
    """
    count, prefix = _block_count(keys), _prefix(keys)
    for name, value in keys.items():
        if name.startswith(prefix) and value.kind == _ARRAY and len(value.value) == count:
            raise UnsupportedModel(
                f"The layers of this model differ ({name} has a value for each), so none can be left out."
            )
    if keys["general.architecture"].value in _BY_NUMBER and f"{prefix}attention.sliding_window" in keys:
        raise UnsupportedModel("Which layers slide a window follows from their numbers here: none can be left out.")
    left = {name: value for name, value in keys.items() if name != f"{prefix}block_count"}
    return left | {f"{prefix}block_count": u32(count - len(set(layers)))}


def _prefix(keys: Keys) -> str:
    return f"{keys['general.architecture'].value}."


def _block_count(keys: Keys) -> int:
    return int(keys[f"{_prefix(keys)}block_count"].value)
