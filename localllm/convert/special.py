"""Special tokens of a checkpoint: their ids, which of them end generation or go around a text, and the chat template.

Reads the files of transformers; knows nothing of GGUF but the names of its keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.config import Config
from localllm.errors import BadCheckpoint

ROLES = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",
    "pad": "padding_token_id",
    "cls": "cls_token_id",
    "mask": "mask_token_id",
}
"""What transformers calls a special token, and the end of its GGUF key."""


def special_ids(
    checkpoint: Checkpoint, settings: Mapping[str, Any], ids: Mapping[str, int]
) -> tuple[dict[str, int], tuple[int, ...]]:
    """The id of each special role, and all ids that end generation.

    Raises:
        BadCheckpoint: nothing says how generation ends, or it ends with an id beyond the vocabulary.
    """
    config = checkpoint.config
    generation = Config(checkpoint.json("generation_config.json") or {})
    found: dict[str, int] = {}
    for role in ROLES:
        entry = settings.get(f"{role}_token")
        text = entry.get("content") if isinstance(entry, dict) else entry
        if isinstance(text, str) and text in ids:
            found[role] = ids[text]
    for role in ROLES:
        listed = _ids(config, role)
        # Checkpoints name a padding token that is not there (-1, or one past the end); nothing depends on it.
        if listed and role not in found and (role == "eos" or 0 <= listed[0] < len(ids)):
            found[role] = listed[0]
    if "eos" not in found:
        raise BadCheckpoint(
            f"{checkpoint.files.title}: nothing says which token ends generation.",
            hint="Set eos_token in tokenizer_config.json or eos_token_id in config.json.",
        )
    stops = dict.fromkeys([found["eos"], *_ids(config, "eos"), *_ids(generation, "eos")])
    for number in stops:
        if not 0 <= number < len(ids):
            raise BadCheckpoint(f"{checkpoint.files.title}: the eos token has the id {number} of {len(ids)}.")
    return found, tuple(stops)


def _ids(config: Config, role: str) -> list[int]:
    value = config.get(f"{role}_token_id")
    values = value if isinstance(value, list) else [value]
    return [number for number in values if isinstance(number, int) and not isinstance(number, bool)]


def stated_adds(processor: Mapping[str, Any] | None, texts: Mapping[str, str]) -> dict[str, bool]:
    """Which special tokens tokenizer.json puts around a text, as far as it says. `texts` are those of the roles."""
    adds: dict[str, bool] = {}
    steps = (processor.get("processors") or [processor]) if processor else []
    for step in steps:
        if step.get("type") == "ByteLevel":
            adds.setdefault("bos", False)
            adds.setdefault("eos", False)
        elif step.get("type") == "TemplateProcessing":
            adds |= _template_adds(step, texts)
    return adds


def _template_adds(step: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, bool]:
    """What a TemplateProcessing step adds. Wrong readings of unusual templates are found by `verify`."""
    adds: dict[str, bool] = {}
    single = [part.get("SpecialToken", {}).get("id") for part in step.get("single") or ()]
    pair = [part.get("SpecialToken", {}).get("id") for part in step.get("pair") or ()]
    if len(single) > 1 and single[0] is not None:
        adds["bos"] = single[0] == texts.get("bos")
    if len(single) > 1 and single[-1] is not None:
        adds["eos"] = single[-1] == texts.get("eos")
    middle = pair[1 if pair[:1] == single[:1] and single[:1] != [None] else 0 :][1:-1]
    if middle and middle[0] is not None:
        adds["sep"] = middle[0] in (texts.get("sep"), texts["eos"]) and single[-1] is None
    return adds


def chat_templates(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> dict[str, str]:
    """The chat templates by name; the usual one is `default`. A file of its own wins, as in transformers."""
    found: Any = checkpoint.text("chat_template.jinja")
    if found is None:
        found = settings.get("chat_template")
    if found is None:
        found = (checkpoint.json("chat_template.json") or {}).get("chat_template")
    if isinstance(found, str):
        return {"default": found}
    if isinstance(found, list):
        named = {str(entry.get("name")): entry.get("template") for entry in found if isinstance(entry, dict)}
        return {re.sub(r"[^A-Za-z0-9]", "_", name): text for name, text in named.items() if isinstance(text, str)}
    return {}
