"""The settings of a chat as fields of text, and back: each is checked by itself, in the words of what refuses it.

Pure; knows nothing of widgets.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from localllm.chat.presets import Preset
from localllm.chat.settings import ENGINE, MAX_TOKENS, NO_LIMIT, SAMPLING, STOP, SWITCH, limit, stop_texts, stop_written
from localllm.runtime.options import KV_TYPES, Options
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import ModelInfo, Plan


@dataclass(frozen=True)
class Field:
    """One setting: `name` as in `Sampling` or `Options`, what it is called, and what an empty one means."""

    group: Literal["sampling", "engine"]
    name: str
    title: str
    empty: str


USUAL = "as the model recommends"

FIELDS = (
    Field("sampling", "temperature", "Temperature", USUAL),
    Field("sampling", "top_k", "Top k", USUAL),
    Field("sampling", "top_p", "Top p", USUAL),
    Field("sampling", "min_p", "Min p", USUAL),
    Field("sampling", "repeat_penalty", "Repeat penalty", USUAL),
    Field("sampling", "seed", "Seed", "another one each time"),
    Field("sampling", MAX_TOKENS, "Most tokens", "until the reply ends"),
    Field("sampling", STOP, "Stop at", 'where the model ends; a text, or ["one", "two"]'),
    Field("engine", "n_ctx", "Context", "as it is loaded"),
    Field("engine", "kv_type", "KV type", "as it is loaded"),
    Field("engine", "gpu_layers", "GPU layers", "as it is loaded"),
    Field("engine", "threads", "Threads", "as it is loaded"),
    Field("engine", "flash_attention", "Flash attention", "as it is loaded: auto, on or off"),
)
OF_NAME = {field.name: field for field in FIELDS}


@dataclass(frozen=True)
class Settled:
    """Settings that can be used: `sampling` and `engine` hold what differs from what is usual; `options` are those of
    a load with them, the same as those of what is loaded if nothing has to be loaded again."""

    sampling: Mapping[str, Any]
    engine: Mapping[str, Any]
    options: Options

    def preset(self, system: str) -> Preset:
        """These settings under a name."""
        return Preset(system, self.sampling, self.engine)

    def into(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a chat with these."""
        others = {name: value for name, value in settings.items() if name not in (SAMPLING, ENGINE)}
        mine: dict[str, Mapping[str, Any]] = {SAMPLING: self.sampling, ENGINE: self.engine}
        # What the form does not show stays: a further sampler, say.
        unseen = {name: value for name, value in settings.get(SAMPLING, {}).items() if name not in OF_NAME}
        mine[SAMPLING] = {**unseen, **self.sampling}
        return {**others, **{name: dict(values) for name, values in mine.items() if values}}


def placeholder(field: Field, info: ModelInfo | None, max_tokens: int = NO_LIMIT) -> str:
    """What an empty field means, with the value where it is known: "as the model recommends: 0.2".

    `max_tokens` is the limit of a reply in a chat that has none of its own.
    """
    if field.name == MAX_TOKENS and max_tokens != NO_LIMIT:
        return f"{max_tokens:,}, as --max-tokens says; {NO_LIMIT} is no limit"
    value = info.sampling.get(field.name) if info is not None and field.empty == USUAL else None
    return field.empty if value is None else f"{field.empty}: {round(value, 4):g}"


def texts(settings: Mapping[str, Any], loaded: Plan) -> dict[str, str]:
    """What the fields say of a chat's settings; those of the engine that it leaves open are as loaded."""
    found = {}
    for field in FIELDS:
        value = settings.get(field.group, {}).get(field.name)
        if value is None and field.group == "engine":
            value = _as_value(field.name, getattr(loaded.options, field.name))
        found[field.name] = _written(field, value)
    return found


def _written(field: Field, value: Any) -> str:
    if value is None:
        return ""
    if field.name == STOP and isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
        return stop_written(value)
    return value if isinstance(value, str) else json.dumps(value)


def _as_value(name: str, value: Any) -> Any:
    return next(word for word, meaning in SWITCH.items() if meaning is value) if name == "flash_attention" else value


def settled(
    values: Mapping[str, str], loaded: Plan, kept: Collection[str] = ()
) -> tuple[Settled | None, dict[str, str]]:
    """What the fields say as settings, or None and what is wrong with each field that is.

    `kept` are the names of the settings of the engine that the chat has of its own: it has them until their fields are
    emptied, also where they are as loaded, for they are not in the next start of the app.
    """
    wrong: dict[str, str] = {}
    sampling: dict[str, Any] = {}
    engine: dict[str, Any] = {}
    options = loaded.options
    for field in FIELDS:
        text = values.get(field.name, "").strip()
        if not text:
            continue
        try:
            value = _value(field, text)
            if field.group == "sampling":
                limit(value) if field.name == MAX_TOKENS else replace(Sampling(), **{field.name: value})
                sampling[field.name] = value
            else:
                meant: Any = SWITCH[value] if field.name == "flash_attention" else value
                options = replace(options, **{field.name: meant})
                if field.name in kept or meant != getattr(loaded.options, field.name):
                    engine[field.name] = value
        except (ValueError, TypeError) as error:
            wrong[field.name] = str(error)
    if wrong:
        return None, wrong
    if options.gpu_layers != loaded.gpu_layers:
        options = replace(options, split=())
    return Settled(sampling, engine, options), {}


def _value(field: Field, text: str) -> Any:
    if field.name == "kv_type":
        if any(part not in KV_TYPES for part in text.split("/")):
            raise ValueError(f"one of {', '.join(KV_TYPES)}")
        return text
    if field.name == STOP:
        return stop_texts(text)
    if field.name == "flash_attention":
        if text not in SWITCH:
            raise ValueError("auto, on or off")
        return text
    whole = field.name not in ("temperature", "top_p", "min_p", "repeat_penalty")
    try:
        return int(text.replace(",", "")) if whole else float(text)
    except ValueError:
        raise ValueError(f"a {'whole ' if whole else ''}number, not {text!r}") from None
