"""Whether the head of a checkpoint is its embeddings: by the configuration, and by what is stored.

transformers 5 keeps a stored head that differs from the embeddings, although config.json ties them: `tie_weights`.
So do we, where llama.cpp has a head for the family. Older versions wrote the embeddings over it.
"""

from __future__ import annotations

import numpy as np

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.config import Config
from localllm.convert.families import Family
from localllm.convert.plan import source_names
from localllm.convert.transforms import as_float32

_TIED = "tie_word_embeddings"

_SAMPLE = 16
"""Rows that are compared at the start, in the middle and at the end: a head that was trained apart differs in all."""


def settle(checkpoint: Checkpoint, family: Family, config: Config) -> tuple[Config, tuple[str, ...]]:
    """The configuration, in which the head is not tied if a stored one differs from the embeddings; and a note then.

    Raises:
        BadCheckpoint: the file became shorter since its header was read.
    """
    names = source_names(checkpoint, family)
    embeddings = next(rule.source for rule in family.rules if rule.name == "token_embd.weight")
    if not config.flag(_TIED) or not {family.head, embeddings} <= names.keys():
        return config, ()
    if _same(checkpoint, names[family.head], names[embeddings]):
        return config, ()
    note = f"config.json ties the head to the embeddings ({_TIED}), but another head is stored: that one is converted"
    return Config({**config.values, _TIED: False}), (note,)


def _same(checkpoint: Checkpoint, one: str, other: str) -> bool:
    shape = checkpoint.tensors[one].shape
    if shape != checkpoint.tensors[other].shape:
        return False
    for first in {0, shape[0] // 2, max(0, shape[0] - _SAMPLE)}:
        last = min(first + _SAMPLE, shape[0])
        rows = [as_float32(checkpoint.rows(name, first, last)) for name in (one, other)]
        if not np.array_equal(rows[0], rows[1]):
            return False
    return True
