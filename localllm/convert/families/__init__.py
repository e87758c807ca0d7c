"""Model families as data: which tensors a GGUF of the family has, where each comes from, and its hyperparameters.

A family is one small module in this folder with a `FAMILY` or several `FAMILIES`; nothing else lists it. Knows no
weights and no files.
"""

from __future__ import annotations

import functools
import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localllm.convert.config import Config
from localllm.convert.header import Keys
from localllm.convert.transforms import Keep, Transform
from localllm.errors import UnsupportedModel

MOST_LAYERS = 512
"""`LLAMA_MAX_LAYERS` of llama.cpp."""

DENSE, DENSE_WIDTH = ("dense.0.weight", "dense.1.weight"), "dense_width"
"""The matrices of the layers behind the pooling among a checkpoint's tensors, and the key of the width between them."""

Sizes = Mapping[str, int]
"""Sizes by name: `hidden`, `ffn`, `head`. A shape is written with these names."""


@dataclass(frozen=True)
class Rule:
    """One tensor of the GGUF. In the names `{i}` stands for the number of the layer.

    `source` is its name in the checkpoint. With `{e}` in it there is one source for each of the `experts`, or of what
    the size named by `each` counts, and the transform gets them all. `shape` is what each source must have, rows first:
    a dimension is a number, the name of a size, or a product of such (`2 ffn`).

    An `optional` one may be missing. Several rules with one `name` are alternatives: the first whose source is there
    counts. `when` leaves a rule out for a configuration, or for some of its layers (`layer` is -1 outside layers).
    """

    name: str
    source: str
    shape: tuple[str | int, ...]
    transform: Callable[[Sizes], Transform] = lambda _: Keep()
    optional: bool = False
    each: str = "experts"
    when: Callable[[Config, int], bool] = lambda _config, _layer: True

    def source_shape(self, sizes: Sizes) -> tuple[int, ...]:
        """The shape that each source must have."""
        return tuple(math.prod(_size(factor, sizes) for factor in str(side).split()) for side in self.shape)


def _size(factor: str, sizes: Sizes) -> int:
    return int(factor) if factor.isdecimal() else sizes[factor]


@dataclass(frozen=True)
class Extra:
    """A tensor of the GGUF that follows from the configuration alone."""

    name: str
    transform: Transform


@dataclass(frozen=True)
class StoredKey:
    """A list of float32 in the metadata, under the name `name`: the single numbers in `source` of every layer."""

    name: str
    source: str

    def sources(self, layers: int) -> list[str]:
        """The tensors of all layers."""
        return [self.source.format(i=layer) for layer in range(layers)]


def _nothing(_: Config) -> None:
    """What `refuse` does where there is nothing to refuse."""


@dataclass(frozen=True)
class Family:
    """How some architectures become a GGUF with the architecture `arch` of llama.cpp.

    `defaults` has a key for each architecture as `config.json` names it, with the values that its class in transformers
    takes when the file leaves them out; `aliases` has other names that published files use for a key, each with the
    present one. `dimensions` gives sizes, `layers` and `vocab` among them; `layer_dimensions` those that differ between
    layers. `layer_rules` repeat for every layer.

    `stored_keys` are hyperparameters that stand in tensors.

    `renames` are regular expressions and replacements that bring a checkpoint's names to those of the rules.
    `ignored` are expressions for tensors that nobody needs, such as buffers that older checkpoints store; `left_out`
    for parts of a checkpoint that the GGUF does not hold, with what to tell the person. `next_layers` is how many
    layers behind the last of `dimensions` predict further tokens: these are left out as well. `head` is the output
    matrix, which is left out where it is tied to the embeddings.

    `dense` is whether the graph has the two layers that sentence-transformers may put behind the pooling.

    `refuse` raises `UnsupportedModel` for a configuration that llama.cpp does not compute. `notes` says in words where
    llama.cpp and transformers differ for a configuration that is converted all the same.
    """

    arch: str
    defaults: Mapping[str, Mapping[str, Any]]
    dimensions: Callable[[Config], Sizes]
    hyperparameters: Callable[[Config, str], Keys]
    rules: tuple[Rule, ...]
    layer_rules: tuple[Rule, ...]
    layer_dimensions: Callable[[Config, int], Sizes] = lambda _config, _layer: {}
    stored_keys: tuple[StoredKey, ...] = ()
    refuse: Callable[[Config], None] = _nothing
    extras: Callable[[Config], list[Extra]] = lambda _: []
    notes: Callable[[Config], list[str]] = lambda _: []
    aliases: Mapping[str, str] = field(default_factory=dict)
    renames: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    next_layers: Callable[[Config], int] = lambda _: 0
    head: str = "lm_head.weight"
    dense: bool = False

    def complete(self, config: Config) -> Config:
        """A checkpoint's configuration under the names of `defaults`, and with what it leaves out.

        Raises:
            UnsupportedModel: it names more layers than llama.cpp has room for.
        """
        completed = config.completed(self.defaults[config.architecture], self.aliases)
        for name in ("num_hidden_layers", "n_layer"):
            layers = completed.get(name)
            if isinstance(layers, int) and layers > MOST_LAYERS:
                raise UnsupportedModel(f"config.json: {name} is {layers}; llama.cpp runs at most {MOST_LAYERS} layers.")
        return completed


@functools.cache
def known() -> Mapping[str, Family]:
    """Every family by the architectures that it converts, from the modules in this folder."""
    found: dict[str, Family] = {}
    for module in pkgutil.iter_modules(__path__):
        held = importlib.import_module(f"{__name__}.{module.name}")
        for family in getattr(held, "FAMILIES", (held.FAMILY,) if hasattr(held, "FAMILY") else ()):
            found |= dict.fromkeys(family.defaults, family)
    return found
