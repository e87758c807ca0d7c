"""A checkpoint's `config.json`: both dialects, defaults filled in, every value checked when it is read.

Knows the names that transformers writes; knows nothing of GGUF keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localllm.errors import BadCheckpoint, UnsupportedModel


@dataclass(frozen=True)
class Rope:
    """Rotary positions: `kind` is transformers' `rope_type`, `parameters` what else the checkpoint says of it."""

    kind: str
    theta: float
    parameters: Mapping[str, Any]

    def number(self, name: str, default: float | None = None) -> float:
        """A parameter. Without a default it must be there.

        Raises:
            BadCheckpoint: it is missing or not a number.
        """
        value = self.parameters.get(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise BadCheckpoint(
                f"config.json: rope parameter {name} is {value!r}; rope type {self.kind} needs a number."
            )
        return float(value)


class Config:
    """The values of `config.json`; what it leaves out comes from `defaults`, those of the architecture.

    Of a model that also sees or hears these are the values of its language model, as if they stood alone.
    """

    def __init__(self, values: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        self.values: dict[str, Any] = {**(defaults or {}), **_flattened(values)}

    def completed(self, defaults: Mapping[str, Any], aliases: Mapping[str, str]) -> Config:
        """The same values above other defaults. `aliases` are older names of keys and the names that count now."""
        older = {new: self.get(old) for old, new in aliases.items() if self.get(old) is not None}
        return Config({**older, **self.values}, defaults)

    @property
    def architecture(self) -> str:
        """The first of `architectures`: `LlamaForCausalLM`; empty when the file names none."""
        named = self.values.get("architectures")
        return str(named[0]) if isinstance(named, list) and named else ""

    def get(self, name: str, default: Any = None) -> Any:
        """A value as it is; null counts as left out."""
        value = self.values.get(name)
        return default if value is None else value

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number from 1 on.

        Raises:
            BadCheckpoint: it is missing or something else.
        """
        value = self.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadCheckpoint(f"config.json: {name} is {value!r}, not a positive whole number.")
        return value

    def whole(self, name: str) -> int:
        """A whole number from 0 on; left out is 0.

        Raises:
            BadCheckpoint: it is something else.
        """
        return 0 if self.get(name, 0) == 0 else self.count(name)

    def number(self, name: str) -> float:
        """A finite number.

        Raises:
            BadCheckpoint: it is missing or something else.
        """
        value = self.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise BadCheckpoint(f"config.json: {name} is {value!r}, not a number.")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false; left out is false."""
        return bool(self.get(name, False))

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse a checkpoint whose `name` is set to something that GGUF cannot express for its architecture.

        Raises:
            UnsupportedModel: the value is none of `allowed`.
        """
        value = self.get(name)
        if value is not None and value not in allowed:
            wanted = " or ".join(map(repr, allowed))
            raise UnsupportedModel(f"config.json: {name} is {value!r}; {self.architecture} is converted with {wanted}.")

    @property
    def rope(self) -> Rope:
        """Rotary positions, from `rope_parameters` (transformers 5) or from `rope_theta` and `rope_scaling`."""
        found = self.get("rope_parameters") or self.get("rope_scaling") or {}
        if not isinstance(found, dict):
            raise BadCheckpoint(f"config.json: the rope parameters are {found!r}, not an object.")
        kind = found.get("rope_type", found.get("type", "default"))
        if _is_by_layer(found):
            raise UnsupportedModel("config.json: rope parameters that differ between layers are not converted.")
        theta = found.get("rope_theta", self.get("rope_theta"))
        if not isinstance(theta, (int, float)) or theta <= 0:
            raise BadCheckpoint(f"config.json: rope_theta is {theta!r}, not a positive number.")
        parameters = dict(found)
        for name in ("original_max_position_embeddings", "partial_rotary_factor"):
            if self.get(name) is not None:
                parameters.setdefault(name, self.get(name))
        return Rope(str(kind), float(theta), parameters)

    def for_layers(self, kind: str) -> Config:
        """The same as layers of a type of `layer_types` read it: with the rotary positions that are theirs.

        transformers 5 writes `rope_parameters` for each type. In older files layers with a window take
        `rope_local_base_freq`, where the family has it, and no scaling.

        Raises:
            BadCheckpoint: what is there for the type is not an object.
        """
        found = self.get("rope_parameters") or {}
        local = self.get("rope_local_base_freq") if kind == "sliding_attention" else None
        if isinstance(found, dict) and _is_by_layer(found):
            own = found.get(kind) or {}
            if not isinstance(own, dict):
                raise BadCheckpoint(f"config.json: the rope parameters of {kind} are {own!r}, not an object.")
        elif local is not None:
            own = {"rope_type": "default"}
        else:
            return self
        theta = self.get("rope_theta") if local is None else local
        changed = {"rope_parameters": {"rope_theta": theta, "rope_type": "default"} | own, "rope_scaling": None}
        return Config({**self.values, **changed})


def _is_by_layer(parameters: Mapping[str, Any]) -> bool:
    """Whether rope parameters are those of each type of layer."""
    return any(isinstance(value, dict) for value in parameters.values())


_OF_THE_WHOLE = re.compile(r"architectures|model_type|tie_word_embeddings|\w+_token_id")


def _flattened(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the `text_config` of a model with several parts says, and what only the whole model says.

    The whole counts for its architecture, for special tokens and for whether its head is tied, as in transformers.
    """
    inner = values.get("text_config")
    if not isinstance(inner, Mapping):
        return dict(values)
    outer = {name: value for name, value in values.items() if name != "text_config" and value is not None}
    return {
        **outer,
        **{name: value for name, value in inner.items() if value is not None or name not in outer},
        **{name: value for name, value in outer.items() if _OF_THE_WHOLE.fullmatch(name)},
    }
