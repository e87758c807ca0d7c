"""From a checkpoint's headers to the tensors of the GGUF, all checked, before a weight is read.

Every tensor of the checkpoint is used by exactly one rule or named as ignored: what nobody understands is an error.
Knows nothing of quantization types beyond what must stay F32.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.config import Config
from localllm.convert.families import Family, Rule
from localllm.convert.safetensors import SourceTensor
from localllm.convert.transforms import Transform
from localllm.errors import BadCheckpoint


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of the GGUF. `shape` is in the order of the checkpoint, rows first; `dtype` as its rows come."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sources: tuple[str, ...]
    transform: Transform

    @property
    def columns(self) -> int:
        """Numbers in a row; a vector is one row."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return math.prod(self.shape[:-1])

    @property
    def keeps_f32(self) -> bool:
        """Whether llama.cpp wants it in F32 whatever the rest is: vectors and norms."""
        return len(self.shape) < 2 or self.name.endswith("_norm.weight")


def half_type(checkpoint: Checkpoint) -> str:
    """The 16-bit type that stands between the checkpoint and a quantized type: `BF16` or `F16`.

    As the reference converter's `--outtype auto` finds it: that of the first matrix stored in 16 bits, else F16. For a
    checkpoint in 16 bits this changes nothing; F32 weights are rounded to it.
    """
    for tensor in checkpoint.tensors.values():
        if len(tensor.shape) > 1 and tensor.dtype in ("BF16", "F16"):
            return tensor.dtype
    return "F16"


def plan_tensors(checkpoint: Checkpoint, family: Family, config: Config) -> list[PlannedTensor]:
    """Every tensor of the GGUF, in the order in which llama.cpp's own quantizer writes them.

    Raises:
        BadCheckpoint: a tensor is missing, has a shape that contradicts the configuration, or is used by no rule.
    """
    sizes = family.dimensions(config)
    title = checkpoint.files.title
    unused = {name for name in checkpoint.tensors if not name.endswith(family.ignored or ("\0",))}
    planned = []
    for rule, name, source in _expand(family, sizes["layers"]):
        tensor = checkpoint.tensors.get(source)
        if source == "lm_head.weight" and config.flag("tie_word_embeddings"):
            # transformers overwrites a stored head with the embeddings when they are tied.
            unused.discard(source)
            continue
        if tensor is None:
            if rule.optional:
                continue
            raise _missing(title, source, unused)
        _check_shape(title, tensor, rule, sizes)
        unused.discard(source)
        transform = rule.transform(sizes)
        planned.append(PlannedTensor(name, transform.shape([tensor.shape]), tensor.dtype, (source,), transform))
    if unused:
        raise _unused(title, unused, sizes["layers"])
    for extra in family.extras(config):
        planned.append(PlannedTensor(extra.name, extra.transform.shape([]), "F32", (), extra.transform))
    return sorted(planned, key=lambda tensor: _order(tensor.name))


def _expand(family: Family, layers: int) -> Iterator[tuple[Rule, str, str]]:
    """Each rule with the names it has in the GGUF and in the checkpoint."""
    for rule in family.rules:
        yield rule, rule.name, rule.source
    for layer in range(layers):
        for rule in family.layer_rules:
            yield rule, rule.name.format(i=layer), rule.source.format(i=layer)


def _order(name: str) -> tuple[int, bytes]:
    """What has no layer first, then by layer, each by the bytes of its name (`weight_name_comparer` of llama.cpp)."""
    layer = re.match(r"blk\.(\d+)\.", name)
    return (int(layer.group(1)) if layer else -1, name.encode())


def _check_shape(title: str, tensor: SourceTensor, rule: Rule, sizes: Mapping[str, int]) -> None:
    expected = tuple(sizes[name] for name in rule.shape)
    if tensor.shape != expected:
        meaning = " x ".join(rule.shape)
        raise BadCheckpoint(
            f"{title}: {tensor.name} has shape {list(tensor.shape)}; "
            f"config.json asks for {list(expected)} ({meaning}).",
            hint="config.json does not belong to these weights, or one of them was changed.",
        )


def _missing(title: str, source: str, unused: set[str]) -> BadCheckpoint:
    near = difflib.get_close_matches(source, sorted(unused), n=2, cutoff=0.7)
    hint = f"Left over in the checkpoint: {', '.join(near)}." if near else "Is the checkpoint complete?"
    return BadCheckpoint(f"{title}: the tensor {source} is missing.", hint=hint)


def _unused(title: str, unused: set[str], layers: int) -> BadCheckpoint:
    first = sorted(unused)[0]
    others = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
    return BadCheckpoint(
        f"{title}: nothing here knows what to do with the tensor {first}{others}.",
        hint=f"Leaving it out could change the model. config.json names {layers} layers and the architecture.",
    )
