"""Rebuilds a tokenizer of transformers from the keys of a GGUF: byte-level BPE, and SentencePiece's with byte fallback.

Knows the keys of a GGUF and the form of tokenizer.json; knows nothing of weights.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from localllm.convert.vocabulary.base import CONTROL, NORMAL, USER_DEFINED
from localllm.convert.vocabulary.sentencepiece import MARK
from localllm.convert.vocabulary.slow.documents import bpe, document

Keys = Mapping[str, Any]

PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "smollm": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
}


def tokenizer(keys: Keys) -> dict[str, Any]:
    """The tokenizer.json."""
    model, pre = keys["tokenizer.ggml.model"], keys.get("tokenizer.ggml.pre", "default")
    if model == "llama" and not keys.get("tokenizer.ggml.add_space_prefix", True):
        return _sentencepiece(keys)
    if model == "gpt2" and pre in PRE_TOKENIZERS:
        return _byte_level(keys, PRE_TOKENIZERS[pre])
    sys.exit(f"the tokenizer {model}/{pre} is not rebuilt")


def tokenizer_config(keys: Keys, context: int) -> dict[str, Any]:
    """The tokenizer_config.json of a model that was trained on texts of `context` tokens."""
    tokens = keys["tokenizer.ggml.tokens"]
    named = {
        f"{role}_token": tokens[keys[key]]
        for role, key in (
            ("bos", "tokenizer.ggml.bos_token_id"),
            ("eos", "tokenizer.ggml.eos_token_id"),
            ("pad", "tokenizer.ggml.padding_token_id"),
            ("unk", "tokenizer.ggml.unknown_token_id"),
        )
        if key in keys
    }
    template = keys.get("tokenizer.chat_template")
    return {
        "add_prefix_space": keys.get("tokenizer.ggml.add_space_prefix", False),
        **named,
        **({"chat_template": template} if template else {}),
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "tokenizer_class": "GemmaTokenizer" if keys["tokenizer.ggml.model"] == "llama" else "GPT2Tokenizer",
    }


def _byte_level(keys: Keys, steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tokens = keys["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in keys["tokenizer.ggml.merges"]]
    return document(
        bpe({token: number for number, token in enumerate(tokens)}, merges),
        _added(tokens, keys["tokenizer.ggml.token_type"]),
        normalizer=None,
        pre_tokenizer={"type": "Sequence", "pretokenizers": list(steps)},
        post_processor=None,
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    )


def _sentencepiece(keys: Keys) -> dict[str, Any]:
    """As transformers writes that of Gemma: spaces are marked, a text gets none in front, and `bos` goes before it."""
    types = keys["tokenizer.ggml.token_type"]
    # In a GGUF spaces in tokens that are found before anything is merged are not marked.
    tokens = [
        token.replace(" ", MARK) if kind == USER_DEFINED else token
        for token, kind in zip(keys["tokenizer.ggml.tokens"], types, strict=True)
    ]
    bos = keys["tokenizer.ggml.bos_token_id"]
    text, start = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": tokens[bos], "type_id": 0}}
    other = {"Sequence": {"id": "B", "type_id": 1}}
    return document(
        bpe(
            {token: number for number, token in enumerate(tokens)},
            list(_merges(tokens, types, keys["tokenizer.ggml.scores"])),
            unk_token=tokens[keys["tokenizer.ggml.unknown_token_id"]],
            fuse_unk=True,
            byte_fallback=True,
        ),
        _added(tokens, types),
        normalizer={"type": "Replace", "pattern": {"String": " "}, "content": MARK},
        pre_tokenizer={
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        post_processor={
            "type": "TemplateProcessing",
            "single": [start, text],
            "pair": [start, text, {"SpecialToken": {"id": tokens[bos], "type_id": 1}}, other],
            "special_tokens": {tokens[bos]: {"id": tokens[bos], "ids": [bos], "tokens": [tokens[bos]]}},
        },
        decoder={
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": MARK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
    )


def _merges(tokens: Sequence[str], types: Sequence[int], scores: Sequence[float]) -> Iterator[tuple[str, str]]:
    """Every pair of pieces that make a piece, the piece with the best score first."""
    pieces = {token for token, kind in zip(tokens, types, strict=True) if kind == NORMAL}
    for number in sorted(range(len(tokens)), key=lambda number: -scores[number]):
        token = tokens[number]
        if types[number] == NORMAL:
            pairs = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
            yield from (pair for pair in pairs if pieces.issuperset(pair))


def _added(tokens: Sequence[str], types: Sequence[int]) -> list[dict[str, Any]]:
    """The tokens that are found in a text before anything is merged."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    return [
        {"id": number, "content": token, **flags, "normalized": MARK in token, "special": kind == CONTROL}
        for number, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (CONTROL, USER_DEFINED)
    ]
