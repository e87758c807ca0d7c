"""vocab.json and merges.txt: byte-level BPE as GPT-2 had it first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.vocabulary.slow import classes
from localllm.convert.vocabulary.slow.added import HIGHEST, added_tokens, with_added, within
from localllm.convert.vocabulary.slow.classes import TokenizerClass
from localllm.convert.vocabulary.slow.documents import Made, bpe, byte_level, document, post_processor, split_by
from localllm.errors import BadCheckpoint

VOCABULARY, MERGES = "vocab.json", "merges.txt"


def read_merges(checkpoint: Checkpoint, settings: Mapping[str, Any], rows: int) -> Made:
    """The tokenizer of an embedding with `rows` rows, as a tokenizer.json.

    Raises:
        BadCheckpoint: one of the files is damaged, or they contradict each other.
        UnsupportedModel: the class of the tokenizer is not known, and so how text is split.
    """
    title = checkpoint.files.title
    name, kind = classes.find(title, settings, checkpoint.config, "byte-level", f"{VOCABULARY} with {MERGES}")
    ids = _vocabulary(title, checkpoint.require_json(VOCABULARY))
    merges = _merges(f"{title}: {MERGES}", checkpoint.text(MERGES) or "", ids)
    listed = checkpoint.json("added_tokens.json")
    added, notes = within(added_tokens(title, settings, listed, ids, kind.tokens), rows)
    every = with_added(ids, added)
    named = kind.named(settings)
    made = document(
        bpe(every, merges),
        added,
        normalizer={"type": "NFC"} if kind.composes else None,
        pre_tokenizer=split_by(kind.expression, adds_space=bool(settings.get("add_prefix_space", False))),
        post_processor=post_processor(kind, named, every),
        decoder=byte_level(adds_space=False, splits=True),
    )
    told = _notes(name, kind, str(checkpoint.config.get("model_type")))
    return Made(made, named, notes=(*told, *notes))


def _vocabulary(title: str, found: Mapping[str, Any]) -> dict[str, int]:
    for text, number in found.items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < HIGHEST:
            raise BadCheckpoint(f"{title}: {VOCABULARY} gives the token {text!r} the id {number!r}, which is none.")
    return dict(found)


def _merges(title: str, text: str, ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """Two pieces and a space on each line. The first line may tell a version, and lines may be empty."""
    merges = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise BadCheckpoint(f"{title}, line {number}: {line!r} is not two pieces with one space between them.")
        missing = next((piece for piece in (*parts, "".join(parts)) if piece not in ids), None)
        if missing is not None:
            raise BadCheckpoint(
                f"{title}, line {number}: {missing!r} is not in {VOCABULARY}.",
                hint="Copy both files from the same place.",
            )
        merges.append((parts[0], parts[1]))
    return merges


def _notes(name: str, kind: TokenizerClass, model_type: str) -> tuple[str, ...]:
    if model_type in kind.own:
        return ()
    return (
        f"{MERGES} does not say how text is split before pieces are merged: that is as {name} does it, the class that "
        f"the checkpoint names. If the model was trained with a tokenizer.json, put it beside {MERGES}: it goes first",
    )
