"""From a checkpoint's headers to the tensors of the GGUF, all checked, before a weight is read.

Every tensor of the checkpoint is used by a rule or named as not needed: what nobody understands is an error. Knows
nothing of quantization types beyond what must stay F32.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.config import Config
from localllm.convert.families import Family, Rule, Sizes
from localllm.convert.tensor import BLOCKS, FLOATS
from localllm.convert.transforms import Transform, rows_and_columns
from localllm.errors import BadCheckpoint, UnsupportedModel

_F32_MATRICES = re.compile(
    r"ffn_gate_inp(_shexp)?\.weight$|^position_embd\.|^token_types\.|ssm_conv1d\.|shortconv\.conv\."
    r"|altup_(correct|predict)_coef\."
)
"""Matrices that llama.cpp's graphs read as F32, with norms and all that is not called a weight."""

_NOT_F16 = re.compile(r"^altup_(unembd_)?proj\.")
"""Stacks of matrices that llama.cpp multiplies as one: wrongly in F16 on a processor with a matrix unit (AMX)."""


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
        """Numbers in a row; a vector has rows of one."""
        return rows_and_columns(self.shape)[1]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return rows_and_columns(self.shape)[0]

    @property
    def experts(self) -> int:
        """How many matrices are stacked in it; 1 when it is one."""
        return self.shape[0] if len(self.shape) > 2 else 1

    @property
    def keeps_f32(self) -> bool:
        """Whether llama.cpp wants it in F32 whatever the rest is: vectors, norms, routers, small convolutions."""
        return (
            len(self.shape) < 2
            or self.name.endswith("_norm.weight")
            or not self.name.endswith(".weight")
            or _F32_MATRICES.search(self.name) is not None
        )

    def before_quantizing(self, half: str) -> str:
        """The type in which it comes to llama.cpp's quantizer when weights do in the 16-bit type `half`."""
        return "F32" if self.keeps_f32 or (half == "F16" and _NOT_F16.search(self.name)) else half


def half_type(checkpoint: Checkpoint) -> str:
    """The 16-bit type that stands between the checkpoint and a quantized type: `BF16` or `F16`.

    As the reference converter's `--outtype auto` finds it: that of the first matrix stored in 16 bits, else F16. For a
    checkpoint in 16 bits this changes nothing; F32 weights are rounded to it, and so is what is unpacked.
    """
    for tensor in checkpoint.stored.values():
        if len(tensor.shape) > 1 and tensor.dtype in ("BF16", "F16"):
            return tensor.dtype
    return "F16"


class _Names:
    """A checkpoint's tensors under the names of a family's rules, and which of them no rule has used yet."""

    def __init__(self, checkpoint: Checkpoint, family: Family) -> None:
        self.checkpoint = checkpoint
        self.title = checkpoint.files.title
        self.actual = source_names(checkpoint, family)
        self.unused = {name for name in self.actual if not _is_any(name, family.ignored)}
        self.unused -= {name for name in self.unused if _is_any(name, [pattern for pattern, _ in family.left_out])}

    def has(self, name: str) -> bool:
        return name in self.actual

    def take(self, rule: Rule, sources: list[str], shape: tuple[int, ...]) -> tuple[str, ...]:
        """The names in the checkpoint of a rule's sources, all there and of the right shape."""
        for source in sources:
            if source not in self.actual:
                raise _missing(self.title, source, self.unused)
            tensor = self.checkpoint.tensors[self.actual[source]]
            found = tensor.shape
            if tensor.dtype not in FLOATS and tensor.dtype not in BLOCKS:
                raise UnsupportedModel(
                    f"{self.title}: {tensor.name} is of type {tensor.dtype}; {', '.join(FLOATS)} are converted.",
                    hint="If it is quantized, config.json should say how in its quantization_config.",
                )
            if found != shape:
                meaning = " x ".join(map(str, rule.shape))
                raise BadCheckpoint(
                    f"{self.title}: {self.actual[source]} has shape {list(found)}; "
                    f"config.json asks for {list(shape)} ({meaning}).",
                    hint="config.json does not belong to these weights, or one of them was changed.",
                )
        self.unused.difference_update(sources)
        return tuple(self.actual[source] for source in sources)


def plan_tensors(checkpoint: Checkpoint, family: Family, config: Config) -> list[PlannedTensor]:
    """Every tensor of the GGUF, in the order in which llama.cpp's own quantizer writes them.

    Raises:
        BadCheckpoint: a tensor is missing, has a shape that contradicts the configuration, or is used by no rule.
        UnsupportedModel: a weight is of a type that is not converted.
    """
    names = _Names(checkpoint, family)
    planned: dict[str, PlannedTensor] = {}
    missing: dict[str, str] = {}
    if config.flag("tie_word_embeddings"):
        # A stored copy of the embeddings; `head` has untied another one.
        names.unused.discard(family.head)
    names.unused -= _next_layers(names.unused, family, config)
    for key in family.stored_keys:
        names.unused.difference_update(key.sources(family.dimensions(config)["layers"]))
    for rule, layer, sizes in expand(family, config):
        name = rule.name.format(i=layer)
        sources = _sources(rule, layer, sizes)
        if name in planned or (rule.source == family.head and config.flag("tie_word_embeddings")):
            continue
        if not names.has(sources[0]):
            if not rule.optional:
                missing.setdefault(name, sources[0])
            continue
        taken = names.take(rule, sources, rule.source_shape(sizes))
        tensors = [checkpoint.tensors[source] for source in taken]
        transform = rule.transform(sizes)
        shape = transform.shape([tensor.shape for tensor in tensors])
        planned[name] = PlannedTensor(name, shape, transform.dtype([t.dtype for t in tensors]), taken, transform)
    for name, source in missing.items():
        if name not in planned:
            raise _missing(names.title, source, names.unused)
    if names.unused:
        raise _unused(names.title, {names.actual[name] for name in names.unused}, family, config)
    for extra in family.extras(config):
        planned[extra.name] = PlannedTensor(extra.name, extra.transform.shape([]), "F32", (), extra.transform)
    return sorted(planned.values(), key=lambda tensor: file_order(tensor.name))


def source_names(checkpoint: Checkpoint, family: Family) -> dict[str, str]:
    """A checkpoint's tensors by the names that the family's rules use."""
    return {rule_name(name, family): name for name in checkpoint.tensors}


def left_out(checkpoint: Checkpoint, family: Family, config: Config) -> list[str]:
    """What to tell about the parts of the checkpoint that the GGUF does not hold."""
    names = source_names(checkpoint, family)
    notes = [note for pattern, note in family.left_out if any(re.search(pattern, name) for name in names)]
    if _next_layers(names, family, config):
        notes.append("The layers that predict the tokens after the next are left out; answers are the same without")
    return notes


def _next_layers(names: Iterable[str], family: Family, config: Config) -> set[str]:
    """Those of the tensors that belong to layers behind the last one which predict further tokens."""
    first = family.dimensions(config)["layers"]
    layers = range(first, first + family.next_layers(config))
    numbers = {name: re.match(r"model\.layers\.(\d+)\.", name) for name in names}
    return {name for name, number in numbers.items() if number and int(number.group(1)) in layers}


def rule_name(name: str, family: Family) -> str:
    """The name that the family's rules use for a checkpoint's tensor."""
    for pattern, replacement in family.renames:
        name = re.sub(pattern, replacement, name)
    return name


def _is_any(name: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def expand(family: Family, config: Config) -> Iterator[tuple[Rule, int, Sizes]]:
    """Each rule that counts, with its layer (-1 outside layers) and the sizes there."""
    sizes = family.dimensions(config)
    for rule in family.rules:
        if rule.when(config, -1):
            yield rule, -1, sizes
    for layer in range(sizes["layers"]):
        here = {**sizes, **family.layer_dimensions(config, layer)}
        for rule in family.layer_rules:
            if rule.when(config, layer):
                yield rule, layer, here


def _sources(rule: Rule, layer: int, sizes: Sizes) -> list[str]:
    if "{e}" not in rule.source:
        return [rule.source.format(i=layer)]
    return [rule.source.format(i=layer, e=number) for number in range(sizes[rule.each])]


def file_order(name: str) -> tuple[int, bytes]:
    """What has no layer first, then by layer, each by the bytes of its name (`weight_name_comparer` of llama.cpp)."""
    layer = re.match(r"blk\.(\d+)\.", name)
    return (int(layer.group(1)) if layer else -1, name.encode())


def _missing(title: str, source: str, unused: set[str]) -> BadCheckpoint:
    near = difflib.get_close_matches(source, sorted(unused), n=2, cutoff=0.7)
    hint = f"Left over in the checkpoint: {', '.join(near)}." if near else "Is the checkpoint complete?"
    return BadCheckpoint(f"{title}: the tensor {source} is missing.", hint=hint)


def _unused(title: str, unused: set[str], family: Family, config: Config) -> BadCheckpoint:
    layers = family.dimensions(config)["layers"]
    first = sorted(unused)[0]
    others = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
    return BadCheckpoint(
        f"{title}: nothing here knows what to do with the tensor {first}{others}.",
        hint="Leaving it out could change the model. "
        f"config.json names {layers} layer{'s' if layers != 1 else ''} of {config.architecture}.",
    )
