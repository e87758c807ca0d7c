"""The parts of a tokenizer.json that are made alike of all files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from localllm.convert.vocabulary.base import text_of
from localllm.convert.vocabulary.slow.classes import Around, TokenizerClass


@dataclass(frozen=True)
class Made:
    """A tokenizer.json that was made, and the settings of transformers with the class's own special tokens.

    `scores` are those of a SentencePiece model, by piece; `notes` are in words.
    """

    document: dict[str, Any]
    settings: Mapping[str, Any]
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def document(
    model: Mapping[str, Any],
    added: Sequence[Mapping[str, Any]],
    *,
    normalizer: Mapping[str, Any] | None,
    pre_tokenizer: Mapping[str, Any] | None,
    post_processor: Mapping[str, Any] | None,
    decoder: Mapping[str, Any],
) -> dict[str, Any]:
    """A tokenizer.json with its parts in their usual order."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }


def bpe(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], **settings: Any) -> dict[str, Any]:
    """The model of a tokenizer.json that is a BPE; `settings` are others than the usual ones."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        **settings,
        "vocab": vocab,
        "merges": merges,
    }


def sequence(steps: Sequence[Mapping[str, Any]], inner: str) -> Mapping[str, Any] | None:
    """Steps as one part: none, the only one, or a Sequence, whose list is called `inner`."""
    return None if not steps else steps[0] if len(steps) == 1 else {"type": "Sequence", inner: list(steps)}


def split_by(expression: str, *, adds_space: bool) -> Mapping[str, Any] | None:
    """The pre-tokenizer of byte-level BPE: text is split by an expression, that of GPT-2 if it is empty."""
    steps = [byte_level(adds_space=adds_space, splits=not expression)]
    if expression:
        by_expression = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        steps.insert(0, by_expression)
    return sequence(steps, "pretokenizers")


def byte_level(*, adds_space: bool, splits: bool) -> dict[str, Any]:
    """The step that makes letters of bytes. `splits` as GPT-2 does; `adds_space` before a text."""
    return {"type": "ByteLevel", "add_prefix_space": adds_space, "trim_offsets": True, "use_regex": splits}


def post_processor(kind: TokenizerClass, settings: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, Any]:
    """What a class puts around a text, as a TemplateProcessing. A token that has no id is left out.

    `settings` name the special tokens; `ids` are those of all tokens.
    """
    around = kind.around or _by_settings(kind, settings)
    before, after, between = (
        [text for role in roles if (text := text_of(settings.get(f"{role}_token"))) is not None and text in ids]
        for roles in (around.before, around.after, around.between)
    )
    first, second = _text("A", 0), _text("B", 1)
    used = dict.fromkeys([*before, *after, *between])
    return {
        "type": "TemplateProcessing",
        "single": [*_special(before, 0), first, *_special(after, 0)],
        "pair": [*_special(before, 0), first, *_special(between, 0), second, *_special(after, 1)],
        "special_tokens": {text: {"id": text, "ids": [ids[text]], "tokens": [text]} for text in used},
    }


def _by_settings(kind: TokenizerClass, settings: Mapping[str, Any]) -> Around:
    bos = ("bos",) if settings.get("add_bos_token", kind.adds_bos) else ()
    eos = ("eos",) if settings.get("add_eos_token", False) else ()
    return Around(bos, eos, (*eos, *bos))


def _special(texts: Sequence[str], type_id: int) -> list[dict[str, Any]]:
    return [{"SpecialToken": {"id": text, "type_id": type_id}} for text in texts]


def _text(name: str, type_id: int) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": type_id}}
