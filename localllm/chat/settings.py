"""The settings of one chat: what `Conversation.settings` may hold, and how a person changes it by name.

    {"model": "qwen3:0.6b", "sampling": {"temperature": 0.2, "max_tokens": 300}, "engine": {"n_ctx": 4096}}

`model` is the one that answered last, or that a person chose for it, by a name or as a path; `sampling` is how its
replies are made: fields of `Sampling`, and the most tokens of a reply; `engine` is how it was loaded, as far as that
was chosen for this chat. What is not there is as everywhere else. Knows nothing of where they are kept.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from localllm.errors import BadSettings
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling

MODEL, SAMPLING, ENGINE = "model", "sampling", "engine"

STOP, MAX_TOKENS = "stop", "max_tokens"

NO_LIMIT = 0
"""The most tokens of a reply that may be as long as it likes."""

_OF_SAMPLER = tuple(field.name for field in fields(Sampling) if field.name not in ("grammar", "schema", "logprobs"))

NAMES = (*_OF_SAMPLER, MAX_TOKENS)
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
    values = _manner(settings)
    unknown = [name for name in values if name not in NAMES]
    if unknown:
        raise BadSettings(f"This chat has a setting {unknown[0]!r}, which there is not.", hint=_TAKE_BACK)
    try:
        return replace(usual, **{name: value for name, value in values.items() if name != MAX_TOKENS})
    except (ValueError, TypeError) as error:
        raise BadSettings(f"A setting of this chat is wrong: {error}.", hint=_TAKE_BACK) from None


def max_tokens_of(settings: Mapping[str, Any], usual: int) -> int:
    """The most tokens of a reply in a chat with these settings, `NO_LIMIT` for any number; `usual` is that of others.

    Raises:
        BadSettings: they hold something else.
    """
    try:
        return limit(_manner(settings).get(MAX_TOKENS, usual))
    except ValueError as error:
        raise BadSettings(f"A setting of this chat is wrong: {error}.", hint=_TAKE_BACK) from None


def limit(value: object) -> int:
    """`value` as the most tokens of a reply.

    Raises:
        ValueError: it cannot be that.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not NO_LIMIT <= value <= _INT32:
        raise ValueError(f"the most tokens of a reply are a whole number, {NO_LIMIT} for no limit, not {value!r}")
    return value


_INT32 = 2**31 - 1


def _manner(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """How replies are made, as far as a chat says it."""
    values = settings.get(SAMPLING, {})
    if not isinstance(values, Mapping):
        raise BadSettings("The sampling settings of this chat are no names with values.", hint=_TAKE_BACK)
    return values


def check(settings: Mapping[str, Any]) -> None:
    """Refuse settings with which no reply can be made.

    Raises:
        BadSettings: see `sampling_of` and `max_tokens_of`.
    """
    sampling_of(settings, Sampling())
    max_tokens_of(settings, NO_LIMIT)


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
    check(after)
    return after if values else {key: kept for key, kept in after.items() if key != SAMPLING}


_ALL = ", ".join(NAMES)


def described(sampling: Sampling, max_tokens: int) -> str:
    """What is not left to the model and its defaults, a line each; empty if nothing is."""
    limit = {MAX_TOKENS: max_tokens} if max_tokens != NO_LIMIT else {}
    return "\n".join(
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in (asdict(sampling) | limit).items()
        if _is_set(value)
    )


def _is_set(value: object) -> bool:
    return value is not None and value != ()


def _value(name: str, text: str) -> Any:
    if name == STOP:
        try:
            return stop_texts(text)
        except ValueError as error:
            raise BadSettings(f"{name} is {error}.", hint=f"/set {name} -  leaves it to the default.") from None
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(value, (str, bool)):
        raise BadSettings(f"{name} is a number, not {text!r}.", hint=f"/set {name} -  leaves it to the default.")
    return value


def stop_texts(text: str) -> list[str]:
    """The texts at which a reply ends, as a person writes them: one as it stands, or several as JSON has them.

    Raises:
        ValueError: one is empty, or it is JSON of something else than texts.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    # A bare number, true or null is a text that looks like JSON.
    texts = value if isinstance(value, list) else [value if isinstance(value, str) else text]
    if not texts or not all(isinstance(one, str) and one for one in texts):
        raise ValueError(f'a text, or several as ["one", "two"], not {text}')
    return texts


def stop_written(texts: Sequence[str]) -> str:
    """The opposite of `stop_texts`: a text as it stands where that is read back as it."""
    alone = texts[0] if len(texts) == 1 else ""
    if alone and alone == alone.strip() and alone.isprintable() and not alone.startswith(("[", '"')):
        return alone
    return json.dumps(list(texts), ensure_ascii=False)
