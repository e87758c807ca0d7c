"""A LoRA adapter of PEFT becomes a GGUF adapter for a model that was converted of the same base.

Where the rows of a matrix of the base move on their way to the GGUF, the rows of B move alike; of what is made in any
other way no adapter is converted. Reference: `convert_lora_to_gguf.py` and `llama-adapter.cpp` of llama.cpp.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localllm.convert import architectures
from localllm.convert.config import Config
from localllm.convert.families import Family, Rule
from localllm.convert.files import Files, LocalFiles, closed_on_error
from localllm.convert.header import Keys, f32, text, u32
from localllm.convert.plan import PlannedTensor, expand, file_order, rule_name
from localllm.convert.safetensors import read_safetensors_header
from localllm.convert.tensor import FLOATS, StoredRows
from localllm.convert.transforms import Every, EveryOtherRow, Interleave, Join, Keep, Transform, Transpose
from localllm.errors import BadCheckpoint, ModelNotFound, UnsupportedModel

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
TYPES = ("F32", "F16", "BF16", "Q8_0")
"""The types in which an adapter can be written."""

_PART = re.compile(r"^base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight$")


@dataclass(frozen=True)
class Adapter:
    """An adapter as it will be written: for an architecture, without types."""

    source: StoredRows
    architecture: str
    keys: Keys
    tensors: list[PlannedTensor]

    def typed(self, kind: str) -> list[tuple[str, tuple[int, ...], str]]:
        """Name, shape with the row length first, and type; rows that do not fill blocks are in F16."""
        return [(t.name, t.shape[::-1], "F16" if kind == "Q8_0" and t.columns % 32 else kind) for t in self.tensors]


def open_adapter(folder: Path, base: Path | Files) -> Adapter:
    """Read the headers of the adapter in `folder`. Of `base`, a checkpoint, only config.json is read; it is closed.

    Raises:
        ModelNotFound: there is no such folder or no adapter in it.
        BadCheckpoint: the adapter is incomplete or of another base.
        UnsupportedModel: it is of a kind that GGUF or this converter cannot express.
    """
    with closed_on_error(base):
        settings = _json(folder, CONFIG, f"{folder} holds no adapter of PEFT")
    config = Config(_base_config(base))
    family = architectures.find(config)
    config = family.complete(config)
    family.refuse(config)
    if not (folder / WEIGHTS).is_file():
        raise BadCheckpoint(
            f"{folder} has no {WEIGHTS}.", hint="Save the adapter with safe_serialization=True; a .bin is not read."
        )
    files = LocalFiles(folder)
    with closed_on_error(files):
        source = StoredRows(files, {t.name: t for t in read_safetensors_header(files, WEIGHTS)})
        pairs = _pairs(source, family)
        planned = sorted(_planned(source, pairs, family, config), key=lambda tensor: file_order(tensor.name))
        ranks = {source.tensors[a].shape[0] for a, _ in pairs.values()}
        keys = _keys(folder, family, _alpha(settings, ranks))
    return Adapter(source, config.architecture, keys, planned)


def _base_config(base: Path | Files) -> dict[str, Any]:
    if isinstance(base, Path):
        return _json(base, "config.json", f"{base} is not the base of an adapter")
    try:
        if "config.json" not in base.names():
            raise ModelNotFound(f"{base.title} is not the base of an adapter: it has no config.json.")
        content = bytearray(base.size("config.json"))
        base.read_into("config.json", 0, memoryview(content))
        return _object(content, f"{base.title}: config.json")
    finally:
        base.close()


def _json(folder: Path, name: str, complaint: str) -> dict[str, Any]:
    try:
        content = (folder / name).read_bytes()
    except OSError:
        raise ModelNotFound(f"{complaint}: there is no {folder / name}.") from None
    return _object(content, str(folder / name))


def _object(content: bytes | bytearray, place: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{place} is not valid JSON: {error}.") from error
    if not isinstance(found, dict):
        raise BadCheckpoint(f"{place} does not hold a JSON object.")
    return found


def _alpha(settings: dict[str, Any], ranks: set[int]) -> float:
    """What llama.cpp divides by the rank of a pair to get its scale.

    PEFT divides by the rank as well, or by its root with `use_rslora`, which a file can say only for one rank.
    """
    kind, alpha = settings.get("peft_type"), settings.get("lora_alpha")
    if kind != "LORA" or settings.get("use_dora") or settings.get("bias", "none") not in ("none", None):
        what = "DoRA" if settings.get("use_dora") else "with biases" if kind == "LORA" else f"of type {kind}"
        raise UnsupportedModel(f"The adapter is {what}; plain LoRA is converted.", hint="Merge it into its base.")
    if settings.get("alpha_pattern"):
        raise UnsupportedModel("The adapter has an alpha per layer, which a GGUF cannot say.", hint="Merge it.")
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise BadCheckpoint(f"{CONFIG}: lora_alpha is {alpha!r}, not a number.")
    if not settings.get("use_rslora"):
        return float(alpha)
    if len(ranks) > 1:
        raise UnsupportedModel("The adapter uses rsLoRA with several ranks, which a GGUF cannot say.", hint="Merge it.")
    return float(alpha) * math.sqrt(ranks.pop())


def _keys(folder: Path, family: Family, alpha: float) -> Keys:
    return {
        "general.architecture": text(family.arch),
        "general.type": text("adapter"),
        "adapter.type": text("lora"),
        "general.name": text(folder.resolve().name),
        "adapter.lora.alpha": f32(alpha),
        "general.quantization_version": u32(2),
    }


def _pairs(source: StoredRows, family: Family) -> dict[str, tuple[str, str]]:
    """The names of A and B by the name of the base's tensor in the family's rules, every tensor in a pair."""
    halves: dict[str, dict[str, str]] = {}
    for name, tensor in source.tensors.items():
        match = _PART.match(name)
        if match is None or len(tensor.shape) != 2 or tensor.dtype not in FLOATS:
            raise UnsupportedModel(
                f"The adapter holds {name}, which is no pair of LoRA matrices.",
                hint="Merge it into its base: what changes embeddings, norms or whole layers is not converted.",
            )
        halves.setdefault(rule_name(f"{match.group(1)}.weight", family), {})[match.group(2)] = name
    for base, names in halves.items():
        if len(names) < 2:
            raise BadCheckpoint(f"The adapter has only one of the two matrices of {base}.")
    if not halves:
        raise BadCheckpoint(f"{source.files.title}: {WEIGHTS} is empty.")
    return {base: (names["A"], names["B"]) for base, names in halves.items()}


def _planned(
    source: StoredRows, pairs: dict[str, tuple[str, str]], family: Family, config: Config
) -> Iterator[PlannedTensor]:
    used, named = set(), set()
    for rule, layer, sizes in expand(family, config):
        base, name = rule.source.format(i=layer, e=0), rule.name.format(i=layer)
        tied = rule.source == family.head and config.flag("tie_word_embeddings")
        if base not in pairs or name in named or tied:
            continue
        used.add(base)
        named.add(name)
        shape = rule.source_shape(sizes)
        transform, rows, columns = _by_rows(rule, rule.transform(sizes), shape, base)
        first, second = (source.tensors[part] for part in pairs[base])
        before, rank = (shape[::-1] if isinstance(rule.transform(sizes), Transpose) else shape), first.shape[0]
        if (first.shape, second.shape) != ((rank, before[1]), (before[0], rank)):
            raise BadCheckpoint(
                f"The adapter's matrices for {base} are {list(second.shape)} and {list(first.shape)}; the base has "
                f"{list(before)}.",
                hint="The adapter was trained on another base.",
            )
        yield PlannedTensor(f"{name}.lora_a", (rank, columns), first.dtype, (first.name,), Keep())
        yield PlannedTensor(f"{name}.lora_b", (rows, rank), second.dtype, (second.name,), transform)
    unused = sorted(pairs.keys() - used)
    if unused:
        raise UnsupportedModel(
            f"The adapter changes {unused[0]}, which the GGUF of {config.architecture} does not hold as a tensor.",
            hint="Merge it into its base.",
        )


def _by_rows(rule: Rule, transform: Transform, shape: tuple[int, ...], base: str) -> tuple[Transform, int, int]:
    """How B's rows move, and the rows and columns of the base's matrix in the GGUF."""
    if isinstance(transform, Transpose) and transform.inner == Keep() and len(shape) == 2:
        # A layer that stores its matrix transposed has its A and B as they are.
        return Keep(), shape[1], shape[0]
    moves = isinstance(transform, (Keep, Interleave, Every, EveryOtherRow)) or (
        isinstance(transform, Join) and all(segment.source == 0 for segment in transform.segments)
    )
    result = transform.shape([shape])
    if not moves or "{e}" in rule.source or len(result) != 2 or result[1] != shape[-1]:
        raise UnsupportedModel(
            f"The adapter changes {base}, which is put together in the GGUF in a way that its adapter cannot be.",
            hint="Merge it into its base.",
        )
    return (Keep() if isinstance(transform, Keep) else transform), result[0], result[1]
