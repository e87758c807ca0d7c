"""Special tokens of a checkpoint: their ids, which of them end generation, and which go around a text.

Reads the files of transformers; knows nothing of GGUF but what it calls a role.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.config import Config
from localllm.convert.vocabulary.base import ROLES, Special, steps, text_of
from localllm.errors import BadCheckpoint

_STAND_IN = {"bos": "cls", "eos": "sep"}
"""What encoders call the first and the last token of a text."""


def read_special(
    checkpoint: Checkpoint, settings: Mapping[str, Any], processor: Mapping[str, Any] | None, ids: Mapping[str, int]
) -> Special:
    """The special tokens, from the tokenizer's settings, its post-processor, `config.json`, `generation_config.json`.

    `ids` are those of all tokens.

    Raises:
        BadCheckpoint: nothing says how generation ends, or it ends with an id beyond the vocabulary.
    """
    config, generation = checkpoint.config, Config(checkpoint.object("generation_config.json"))
    found: dict[str, int] = {}
    for role in ROLES:
        text = text_of(settings.get(f"{role}_token")) or text_of(settings.get(f"{_STAND_IN.get(role)}_token"))
        if text is not None and text in ids:
            found[role] = ids[text]
    for role in ROLES:
        listed = _ids(config, role)
        # Checkpoints name a padding token that is not there (-1, or one past the end); nothing depends on it.
        if listed and role not in found and (role == "eos" or 0 <= listed[0] < len(ids)):
            found[role] = listed[0]
    around = _around(processor)
    stops = [found[role] for role in ("eos",) if role in found]
    # llama.cpp puts its bos and eos around a text, and no other: what the tokenizer puts there has these names.
    for role, texts in (("bos", around.before), ("eos", around.after)):
        if len(texts) == 1 and texts[0] in ids:
            found[role] = ids[texts[0]]
    if "eos" not in found:
        raise BadCheckpoint(
            f"{checkpoint.files.title}: nothing says which token ends generation.",
            hint="Set eos_token in tokenizer_config.json or eos_token_id in config.json.",
        )
    stops += [found["eos"], *_ids(config, "eos"), *_ids(generation, "eos")]
    for number in stops:
        if not 0 <= number < len(ids):
            raise BadCheckpoint(f"{checkpoint.files.title}: the eos token has the id {number} of {len(ids)}.")
    ends = {text for text, number in ids.items() if number in (found.get("sep"), found["eos"])}
    stated = _stated(around, ends)
    wanted = {role: settings.get(f"add_{role}_token") for role in ("bos", "eos") if role not in stated}
    adds = {**stated, **{role: add and role in found for role, add in wanted.items() if isinstance(add, bool)}}
    proven = around.single and all(
        adds.get(role, False) == bool(texts) for role, texts in (("bos", around.before), ("eos", around.after))
    )
    return Special(found, tuple(dict.fromkeys(stops)), adds, proven)


def _ids(config: Config, role: str) -> list[int]:
    value = config.get(f"{role}_token_id")
    values = value if isinstance(value, list) else [value]
    return [number for number in values if isinstance(number, int) and not isinstance(number, bool)]


@dataclass(frozen=True)
class _Around:
    """What a post-processor puts before and after a text, and between two of them.

    `single` is whether it says anything at all; `byte_level` whether one of its steps is that of byte-level tokenizers,
    which says that there is nothing else.
    """

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    single: bool = False
    byte_level: bool = False


def _around(processor: Mapping[str, Any] | None) -> _Around:
    around = _Around()
    for step in steps(processor, "processors"):
        kind = step.get("type")
        if kind == "ByteLevel":
            around = replace(around, single=True, byte_level=True)
        elif kind == "TemplateProcessing":
            around = replace(_template(step.get("single") or (), step.get("pair") or ()), byte_level=around.byte_level)
        elif kind in ("RobertaProcessing", "BertProcessing"):
            first, last = str(step["cls"][0]), str(step["sep"][0])
            between = (last, last) if kind == "RobertaProcessing" else (last,)
            around = _Around((first,), (last,), between, single=True)
    return around


def _template(single: Sequence[Mapping[str, Any]], pair: Sequence[Mapping[str, Any]]) -> _Around:
    """A template is a list of special tokens and of the places of the texts A and B."""
    one, two = ([part.get("SpecialToken", {}).get("id") for part in parts] for parts in (single, pair))
    if None not in one:
        return _Around()
    place = one.index(None)
    between = two[place + 1 : two.index(None, place + 1)] if None in two[place + 1 :] else []
    return _Around(tuple(one[:place]), tuple(one[place + 1 :]), tuple(between), single=True)


def _stated(around: _Around, ends: Collection[str]) -> dict[str, bool]:
    """Which special tokens the tokenizer itself puts around a text, as far as it says; `ends` are those that end one.

    More than one on a side is more than llama.cpp can do: then it adds none, and a chat template has to write them.
    """
    adds: dict[str, bool] = {"bos": False, "eos": False} if around.byte_level else {}
    if around.before:
        adds["bos"] = len(around.before) == 1
    if around.after:
        adds["eos"] = len(around.after) == 1
    if around.between:
        second = around.between[-1] in ends and len(around.between) == 2
        adds["sep"] = second or (around.between[0] in ends and not around.after)
    return adds
