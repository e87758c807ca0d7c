"""Which of a checkpoint's files its tokenizer is read from, all brought to the form of tokenizer.json.

Knows where transformers puts things; knows nothing of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from localllm.convert.checkpoint import Checkpoint
from localllm.errors import BadCheckpoint


@dataclass(frozen=True)
class Source:
    """A tokenizer. `document` is its tokenizer.json, read or made from the file `name`.

    `settings` are those of transformers. `scores` are those of a SentencePiece model, by piece. `notes` say in words
    what was left out.
    """

    name: str
    document: Mapping[str, Any]
    settings: Mapping[str, Any]
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_source(checkpoint: Checkpoint, rows: int) -> Source:
    """The tokenizer of a checkpoint whose embedding has `rows` rows, without added tokens that have none.

    Raises:
        BadCheckpoint: there is none, or its file is damaged.
        UnsupportedModel: there are only files that are not understood.
    """
    settings = {**_object(checkpoint, "special_tokens_map.json"), **_object(checkpoint, "tokenizer_config.json")}
    if "tokenizer.json" not in checkpoint.names:
        raise BadCheckpoint(
            f"{checkpoint.files.title} has no tokenizer.json.",
            hint="Copy tokenizer.json from where the checkpoint comes from.",
        )
    document = checkpoint.require_json("tokenizer.json")
    document, notes = _without_rows(document, rows)
    return Source("tokenizer.json", document, settings, notes=notes)


def _object(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    found = checkpoint.json(name)
    return found if isinstance(found, dict) else {}


def _without_rows(document: dict[str, Any], rows: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A tokenizer without the added tokens behind the last row of the embedding: no model can be fed these."""
    added = document.get("added_tokens") or []
    beyond = [token for token in added if int(token["id"]) >= rows]
    if not beyond:
        return document, ()
    names = ", ".join(str(token["content"]) for token in beyond[:5]) + (" …" if len(beyond) > 5 else "")
    note = f"{len(beyond)} tokens behind the last of the {rows} rows of the embedding are left out: {names}"
    return {**document, "added_tokens": [token for token in added if token not in beyond]}, (note,)
