"""The usual decoder: a family that has Llama's names, sizes, keys and embeddings unless it says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from localllm.convert.config import Config
from localllm.convert.families import Extra, Family, Rule, Sizes, decoder
from localllm.convert.header import Keys


@dataclass(frozen=True, kw_only=True)
class UsualDecoder(Family):
    """A family of decoders: what it does not give is that of `decoder`.

    Buffers with the frequencies of rotary positions, which follow from the configuration, are ignored.
    """

    dimensions: Callable[[Config], Sizes] = decoder.dimensions
    hyperparameters: Callable[[Config, str], Keys] = decoder.hyperparameters
    refuse: Callable[[Config], None] = decoder.refuse
    extras: Callable[[Config], list[Extra]] = decoder.factors
    rules: tuple[Rule, ...] = decoder.EMBEDDINGS
    ignored: tuple[str, ...] = (decoder.INV_FREQ,)
