"""The chat templates of a checkpoint: the usual one and its named variants, wherever transformers puts them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from localllm.convert.checkpoint import Checkpoint
from localllm.errors import BadCheckpoint

FOLDER = "additional_chat_templates/"


def read_templates(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> dict[str, str]:
    """The chat templates by name; the usual one is `default`. `settings` are those of tokenizer_config.json.

    A file of its own goes before the settings, and the files of a folder before variants of the same name, as in
    transformers. Names are written as the keys of a GGUF can hold them.

    Raises:
        BadCheckpoint: a template is neither text nor a list of named texts.
    """
    found: dict[str, str] = {}
    for file, value in (
        ("chat_template.json", checkpoint.object("chat_template.json").get("chat_template")),
        ("tokenizer_config.json", settings.get("chat_template")),
        ("chat_template.jinja", checkpoint.text("chat_template.jinja")),
    ):
        found |= _named(f"{checkpoint.files.title}: {file}", value)
    for name in checkpoint.names:
        if name.startswith(FOLDER) and name.endswith(".jinja"):
            found[name.removeprefix(FOLDER).removesuffix(".jinja")] = checkpoint.text(name) or ""
    return {re.sub(r"[^A-Za-z0-9]", "_", name): text for name, text in found.items()}


def _named(where: str, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, str):
        return {"default": value}
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        texts = {name: text for name, text in named.items() if isinstance(name, str) and isinstance(text, str)}
        if len(texts) == len(value):
            return texts
    raise BadCheckpoint(
        f"{where}: the chat template is neither text nor a list of objects with name and template.",
        hint="Without it the model can only complete text. Remove it to convert all the same.",
    )
