"""Which of a checkpoint's files its tokenizer is read from, all brought to the form of tokenizer.json.

Knows where transformers puts things; knows nothing of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.vocabulary.slow.added import within
from localllm.convert.vocabulary.slow.documents import Made
from localllm.convert.vocabulary.slow.merges import MERGES, VOCABULARY, read_merges
from localllm.convert.vocabulary.slow.pieces import NAMES, read_pieces, scores_beside
from localllm.convert.vocabulary.slow.tekken import TEKKEN, read_tekken
from localllm.convert.vocabulary.slow.words import WORDS, read_words
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


_Reader = Callable[[Checkpoint, Mapping[str, Any], int], Made]
_READERS: tuple[tuple[tuple[str, ...], _Reader], ...] = (
    ((TEKKEN,), read_tekken),
    *(((name,), read_pieces) for name in NAMES),
    ((VOCABULARY, MERGES), read_merges),
    ((WORDS,), read_words),
)
"""The files that a tokenizer is made of where there is no tokenizer.json, and who reads them; the first present win."""


def read_source(checkpoint: Checkpoint, rows: int) -> Source:
    """The tokenizer of a checkpoint whose embedding has `rows` rows, without added tokens that have none.

    tokenizer.json goes before all other files: it says everything but the scores of a SentencePiece model.

    Raises:
        BadCheckpoint: there is none, or its file is damaged.
        UnsupportedModel: there are only files that are not understood.
    """
    settings = {**checkpoint.object("special_tokens_map.json"), **checkpoint.object("tokenizer_config.json")}
    if "tokenizer.json" in checkpoint.names:
        document = checkpoint.require_json("tokenizer.json")
        added, notes = within(_added(f"{checkpoint.files.title}: tokenizer.json", document.get("added_tokens")), rows)
        model = document.get("model")
        falls_back = isinstance(model, dict) and model.get("byte_fallback") and "merges" in model
        scores, remarks = scores_beside(checkpoint, settings) if falls_back else ({}, ())
        return Source("tokenizer.json", {**document, "added_tokens": added}, settings, scores, (*notes, *remarks))
    for names, read in _READERS:
        if all(name in checkpoint.names for name in names):
            made = read(checkpoint, settings, rows)
            return Source(names[0], made.document, made.settings, made.scores, made.notes)
    known = ", ".join(" with ".join(names) for names, _ in _READERS)
    raise BadCheckpoint(
        f"{checkpoint.files.title} has no tokenizer: neither tokenizer.json nor {known}.",
        hint="Copy tokenizer.json from where the checkpoint comes from.",
    )


def _added(title: str, tokens: Any) -> list[dict[str, Any]]:
    """The added tokens of a tokenizer.json.

    Raises:
        BadCheckpoint: one has no id or no text.
    """
    listed = [] if tokens is None else tokens
    if not isinstance(listed, list):
        raise BadCheckpoint(f"{title}: the added tokens are {listed!r}, not a list.")
    for token in listed:
        number, text = (token.get("id"), token.get("content")) if isinstance(token, dict) else (None, None)
        if not isinstance(number, int) or isinstance(number, bool) or not isinstance(text, str):
            raise BadCheckpoint(f"{title}: an added token has no id or no text: {token!r}.")
    return listed
