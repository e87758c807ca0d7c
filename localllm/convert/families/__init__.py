"""Model families as data: which tensors a GGUF of the family has, where each comes from, and its hyperparameters.

A family is one small module; `FAMILIES` lists them. Knows no weights and no files.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localllm.convert.config import Config
from localllm.convert.header import Keys
from localllm.convert.transforms import Keep, Transform
from localllm.errors import UnsupportedModel

ARCHITECTURES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "llama"}
"""The architecture that `config.json` names, and the module here that converts it."""


@dataclass(frozen=True)
class Rule:
    """One tensor of the GGUF. In the names `{i}` stands for the number of the layer.

    `shape` is what the source must have, by names of `Family.dimensions`, rows first. An optional one may be missing.
    """

    name: str
    source: str
    shape: tuple[str, ...]
    transform: Callable[[Mapping[str, int]], Transform] = lambda _: Keep()
    optional: bool = False


@dataclass(frozen=True)
class Extra:
    """A tensor of the GGUF that follows from the configuration alone."""

    name: str
    transform: Transform


@dataclass(frozen=True)
class Family:
    """How one architecture becomes a GGUF.

    `layer_rules` repeat for every layer. `ignored` are the ends of names of tensors that older checkpoints store and
    nobody needs. `refuse` raises `UnsupportedModel` for a configuration that GGUF cannot express. `notes` says in words
    where llama.cpp's graph and transformers differ for a configuration that is converted all the same.
    """

    arch: str
    defaults: Mapping[str, Mapping[str, Any]]
    dimensions: Callable[[Config], Mapping[str, int]]
    hyperparameters: Callable[[Config], Keys]
    rules: tuple[Rule, ...]
    layer_rules: tuple[Rule, ...]
    refuse: Callable[[Config], None]
    extras: Callable[[Config], list[Extra]] = lambda _: []
    notes: Callable[[Config], list[str]] = lambda _: []
    ignored: tuple[str, ...] = field(default=())


def find(config: Config) -> Family:
    """The family of a checkpoint.

    Raises:
        UnsupportedModel: nobody here knows its architecture; says the nearest that is known.
    """
    module = ARCHITECTURES.get(config.architecture)
    if module is None:
        near = difflib.get_close_matches(config.architecture, ARCHITECTURES, n=3, cutoff=0.6)
        named = repr(config.architecture) if config.architecture else "missing"
        raise UnsupportedModel(
            f"The architecture in config.json is {named}; it is not converted yet.",
            hint=f"{'Nearest known' if near else 'Known'}: {', '.join(near or ARCHITECTURES)}.",
        )
    family: Family = importlib.import_module(f"{__name__}.{module}").FAMILY
    return family
