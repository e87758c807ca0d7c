"""The settings of one chat: what `Conversation.settings` may hold, and how a person changes it by name.

    {"model": "qwen3:0.6b", "sampling": {"temperature": 0.2, "top_k": 20}, "engine": {"n_ctx": 4096}}

`model` is the one that answered last, or that a person chose for it, by a name or as a path; `engine` is how it was
loaded, as far as that was chosen for this chat. What is not there is as everywhere else. Knows nothing of where they
are kept.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from localllm.errors import BadSettings
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling

MODEL, SAMPLING, ENGINE = "model", "sampling", "engine"

NAMES = tuple(field.name for field in fields(Sampling) if field.name not in ("grammar", "schema", "logprobs"))
"""What `/set` can change."""

ENGINE_NAMES = ("n_ctx", "kv_type", "gpu_layers", "threads", "flash_attention")
"""The fields of `Options` that a chat can have of its own."""

SWITCH: dict[str, bool | None] = {"auto": None, "on": True, "off": False}
"""The words for flash attention."""

DEFAULT = "-"
"""The value that takes a setting back."""


def sampling_of(settings: Mapping[str, Any], usual: Sampling) -> Sampling:
    """How tokens are picked in a chat with these settings; `usual` is how elsewhere.

    Raises:
        BadSettings: they hold a value that no sampler can compute with.
    """
    values = settings.get(SAMPLING, {})
    if not isinstance(values, Mapping):
        raise BadSettings("The sampling settings of this chat are no names with values.", hint=_TAKE_BACK)
    unknown = [name for name in values if name not in NAMES]
    if unknown:
        raise BadSettings(f"This chat has a setting {unknown[0]!r}, which there is not.", hint=_TAKE_BACK)
    try:
        return replace(usual, **values)
    except (ValueError, TypeError) as error:
        raise BadSettings(f"A setting of this chat is wrong: {error}.", hint=_TAKE_BACK) from None


def options_of(settings: Mapping[str, Any], usual: Options) -> Options:
    """How a model is loaded for a chat with these settings; `usual` is how for others.

    Raises:
        BadSettings: they hold a value that no model can be loaded with.
    """
    values = settings.get(ENGINE, {})
    if not isinstance(values, Mapping) or not set(values) <= set(ENGINE_NAMES):
        raise BadSettings("How the model was loaded for this chat cannot be read.", hint=_LOAD_ANEW)
    try:
        return replace(usual, **{name: _meant(name, value) for name, value in values.items()})
    except (ValueError, TypeError, AttributeError) as error:
        raise BadSettings(f"The model cannot be loaded as it was for this chat: {error}.", hint=_LOAD_ANEW) from None


_LOAD_ANEW = "F7 in the app chooses how the model is loaded for this chat."


def _meant(name: str, value: Any) -> Any:
    if name == "flash_attention":
        if value not in SWITCH:
            raise ValueError(f"flash attention is auto, on or off, not {value!r}")
        return SWITCH[value]
    if isinstance(value, bool) or not isinstance(value, str if name == "kv_type" else int):
        raise TypeError(f"{name} cannot be {value!r}")
    return value


def engine_of(options: Options, names: Iterable[str] = ENGINE_NAMES) -> dict[str, Any]:
    """These fields of `options` as a chat keeps them; what they leave open is left out."""
    values = {name: getattr(options, name) for name in names}
    words = {meaning: word for word, meaning in SWITCH.items()}
    if "flash_attention" in values:
        values["flash_attention"] = words[values["flash_attention"]]
    left_open = {"gpu_layers": (None,)}
    return {name: value for name, value in values.items() if value not in left_open.get(name, (0, "auto"))}


_TAKE_BACK = "`/set NAME -` takes one back, and `/set -` all of them."


def changed(settings: Mapping[str, Any], order: str) -> dict[str, Any]:
    """The settings after `NAME VALUE`: `temperature 0.2`; `NAME -` takes one back, and `-` alone all of them.

    Raises:
        BadSettings: there is no such name, says the nearest; or no such value.
    """
    name, _, value = order.replace("=", " ", 1).strip().partition(" ")
    name, value = name.replace("-", "_") if name != DEFAULT else name, value.strip()
    values = dict(settings.get(SAMPLING, {}))
    if name == DEFAULT and not value:
        values = {}
    elif value == DEFAULT and name in values:
        del values[name]
    elif name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=3)
        raise BadSettings(
            f"There is no setting {name!r}.", hint=f"The nearest: {', '.join(near)}." if near else f"There are {_ALL}."
        )
    elif not value:
        raise BadSettings(f"{name} to what?", hint=f"/set {name} VALUE, or - for the default.")
    elif value != DEFAULT:
        values[name] = _value(name, value)
    after = {**settings, SAMPLING: values}
    sampling_of(after, Sampling())
    return after if values else {key: kept for key, kept in after.items() if key != SAMPLING}


_ALL = ", ".join(NAMES)


def described(sampling: Sampling) -> str:
    """What is not left to the model and its defaults, a line each; empty if nothing is."""
    return "\n".join(
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in asdict(sampling).items()
        if _is_set(value)
    )


def _is_set(value: object) -> bool:
    return value is not None and value != ()


def _value(name: str, text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if name == "stop":
        return [value] if isinstance(value, str) else value
    if isinstance(value, (str, bool)):
        raise BadSettings(f"{name} is a number, not {text!r}.", hint=f"/set {name} -  leaves it to the default.")
    return value
