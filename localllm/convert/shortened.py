"""Which of many pre-tokenizers may be the right one, found on a shortened vocabulary in little time.

A vocabulary with only the first merges splits text in the same way, and llama.cpp loads it in milliseconds. What is
wrong there is put last, what is right there is compared in full by `verify`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from localllm.convert import corpus
from localllm.convert.header import lay_out, text
from localllm.convert.reference import Reference
from localllm.convert.scratch import skeleton
from localllm.convert.vocabulary.base import NORMAL, Special, Vocabulary
from localllm.convert.vocabulary.byte_level import SPACE, merge_text
from localllm.native.vocab import open_vocab

MERGES, TEXTS = 3000, 300


def most_promising(candidates: Sequence[Vocabulary], reference: Reference, at_least: int) -> list[Vocabulary]:
    """Those that read a shortened vocabulary as the reference does; `at_least` so many, the best first.

    Of vocabularies that are not byte-level there are few: all are returned.
    """
    byte_level = [candidate for candidate in candidates if candidate.model == "gpt2" and candidate.pre != "sarvam-moe"]
    others = [candidate for candidate in candidates if candidate not in byte_level]
    if not byte_level:
        return others
    document = _shorten(reference.document)
    tokens = tuple(document["model"]["vocab"])
    merges = tuple(merge_text(merge, SPACE) for merge in document["model"]["merges"])
    texts = [*corpus.TEXTS, *corpus.BROKEN, *corpus.random_texts(TEXTS), *corpus.class_texts(TEXTS)]
    expected = Reference(document).encode(texts, add_special=False)
    scored = []
    for candidate in byte_level:
        short = Vocabulary("gpt2", candidate.pre, tokens, (NORMAL,) * len(tokens), _NO_SPECIAL, {}, merges=merges)
        scored.append((_different(short, texts, expected), candidate))
    scored.sort(key=lambda pair: pair[0])
    return [candidate for rank, (wrong, candidate) in enumerate(scored) if wrong == 0 or rank < at_least] + others


_NO_SPECIAL = Special({}, (), {}, stated=False)


def _shorten(document: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer with single characters, the first merges and what these make, and nothing else."""
    model = document["model"]
    tokens = dict.fromkeys(text for text in model["vocab"] if len(text) == 1)
    merges = []
    for merge in itertools.islice(model["merges"], MERGES):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        if left in tokens and right in tokens:
            merges.append([left, right])
            tokens[left + right] = None
    vocab = {text: number for number, text in enumerate(tokens)}
    short = {**model, "unk_token": None, "vocab": vocab, "merges": merges}
    return {**document, "model": short, "added_tokens": [], "post_processor": None}


def _different(vocabulary: Vocabulary, texts: Sequence[str], expected: Sequence[list[int]]) -> int:
    layout = lay_out({"general.architecture": text("llama"), **vocabulary.keys()}, [])
    with skeleton(layout) as path, open_vocab(path) as vocab:
        found = (vocab.tokenize(sample, add_special=False, parse_special=True) for sample in texts)
        return sum(ids != wanted for ids, wanted in zip(found, expected, strict=True))
