"""vocab.txt: the WordPiece of BERT, one piece on each line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.vocabulary.base import text_of
from localllm.convert.vocabulary.slow import classes
from localllm.convert.vocabulary.slow.added import added_tokens, with_added, within
from localllm.convert.vocabulary.slow.documents import Made, document, post_processor
from localllm.errors import BadCheckpoint

WORDS = "vocab.txt"


def read_words(checkpoint: Checkpoint, settings: Mapping[str, Any], rows: int) -> Made:
    """The tokenizer of an embedding with `rows` rows, as a tokenizer.json.

    Raises:
        BadCheckpoint: there are no pieces, or the special tokens are not among them.
        UnsupportedModel: the class of the tokenizer is not known, and so how text is cleaned.
    """
    title = checkpoint.files.title
    _, kind = classes.find(title, settings, checkpoint.config, "wordpiece", WORDS)
    ids = _pieces(checkpoint.text(WORDS) or "")
    named = kind.named(settings)
    for role in ("unk", "cls", "sep"):
        text = text_of(named.get(f"{role}_token"))
        if text not in ids:
            raise BadCheckpoint(
                f"{title}: {WORDS} does not hold the {role} token {text!r}.",
                hint=f"Copy {WORDS} and tokenizer_config.json from the same place.",
            )
    listed = checkpoint.json("added_tokens.json")
    added, notes = within(added_tokens(title, settings, listed, ids, kind.tokens), rows)
    every = with_added(ids, added)
    model = {
        "type": "WordPiece",
        "unk_token": text_of(named["unk_token"]),
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": every,
    }
    made = document(
        model,
        added,
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": bool(settings.get("tokenize_chinese_chars", True)),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": bool(settings.get("do_lower_case", True)),
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=post_processor(kind, named, every),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    )
    return Made(made, named, notes=notes)


def _pieces(text: str) -> dict[str, int]:
    """Pieces by their lines; of two that are the same the last counts, as in transformers."""
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    return {line: number for number, line in enumerate(lines)}
