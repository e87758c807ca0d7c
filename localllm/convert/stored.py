"""Hyperparameters that a checkpoint holds as tensors of one number: read, and written as metadata.

Knows no family; which keys those are a family says.
"""

from __future__ import annotations

import math

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.config import Config
from localllm.convert.families import Family
from localllm.convert.header import Keys, f32s
from localllm.convert.plan import source_names
from localllm.convert.transforms import as_float32
from localllm.errors import BadCheckpoint


def read_stored_keys(checkpoint: Checkpoint, family: Family, config: Config) -> Keys:
    """The stored keys of a family, each a list with a number for every layer.

    Raises:
        BadCheckpoint: a tensor is missing, or holds something else than one finite number.
    """
    names, layers = source_names(checkpoint, family), family.dimensions(config)["layers"]
    return {
        key.name: f32s([_number(checkpoint, names, source) for source in key.sources(layers)])
        for key in family.stored_keys
    }


def _number(checkpoint: Checkpoint, names: dict[str, str], source: str) -> float:
    title = checkpoint.files.title
    if source not in names:
        raise BadCheckpoint(f"{title}: the tensor {source} is missing.", hint="Is the checkpoint complete?")
    shape = checkpoint.tensors[names[source]].shape
    if math.prod(shape) != 1:
        raise BadCheckpoint(f"{title}: {names[source]} has shape {list(shape)}, not one number.")
    value = float(as_float32(checkpoint.rows(names[source], 0, 1))[0, 0])
    if not math.isfinite(value):
        raise BadCheckpoint(f"{title}: {names[source]} is {value}.", hint="The checkpoint is damaged.")
    return value
