"""tekken.json: the tokenizer of Mistral's own files, byte-level BPE as tiktoken has it.

`config` has the expression that splits text and how many tokens there are; `special_tokens` come first, filled up to
their number; `vocab` has the bytes of all others by rank. Whatever two neighbours make the token of the lowest rank are
merged first, and a word that is a token is taken whole. Source: `tekken.py` of mistral-common, and the converter of
transformers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.vocabulary.slow.classes import MAKE_ONE, TokenizerClass
from localllm.convert.vocabulary.slow.documents import Made, bpe, byte_level, document, post_processor, split_by
from localllm.errors import BadCheckpoint, UnsupportedModel

TEKKEN = "tekken.json"
_CLASS = TokenizerClass("byte-level", {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>"}, adds_bos=True)


def read_tekken(checkpoint: Checkpoint, settings: Mapping[str, Any], rows: int) -> Made:
    """The tokenizer of an embedding with `rows` rows, as a tokenizer.json.

    Raises:
        BadCheckpoint: the file is damaged.
        UnsupportedModel: it is so old that it does not tell its special tokens.
    """
    title = f"{checkpoint.files.title}: {TEKKEN}"
    found = checkpoint.require_json(TEKKEN)
    config = found.get("config")
    expression = config.get("pattern") if isinstance(config, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(expression, str):
        raise BadCheckpoint(f"{title} does not say how text is split.")
    special = _special(title, found.get("special_tokens"), config.get("default_num_special_tokens"), rows)
    ranks = _ranks(title, found.get("vocab"), config.get("default_vocab_size"), len(special))
    ids = {
        **{_spelled(token): number + len(special) for token, number in ranks.items()},
        **{text: number for number, text in enumerate(special)},
    }
    merges = [(_spelled(left), _spelled(right)) for left, right in _merges(ranks)]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": number, "content": text, **flags, "special": True} for number, text in enumerate(special)]
    known = {role: text for role, text in _CLASS.tokens.items() if text in special}
    named = replace(_CLASS, tokens=known).named(settings)
    made = document(
        bpe(ids, merges, ignore_merges=True),
        added,
        normalizer=None,
        pre_tokenizer=split_by(expression, adds_space=False),
        post_processor=post_processor(_CLASS, named, ids),
        decoder=byte_level(adds_space=False, splits=True),
    )
    return Made(made, named)


def _special(title: str, listed: Any, count: Any, rows: int) -> list[str]:
    """The special tokens by id. Where fewer are listed than there are, the others are called by their numbers."""
    if listed is None:
        raise UnsupportedModel(f"{title} does not tell its special tokens, as older ones do not.", hint=MAKE_ONE)
    try:
        by_rank = {int(token["rank"]): str(token["token_str"]) for token in listed}
    except (TypeError, ValueError, KeyError) as error:
        raise BadCheckpoint(f"{title}: a special token has no rank or no text.") from error
    count = len(by_rank) if count is None else count
    if not isinstance(count, int) or sorted(by_rank) != list(range(len(listed))) or count < len(by_rank):
        raise BadCheckpoint(f"{title}: the {len(listed)} special tokens are not numbered from 0 to at most {count}.")
    if count > rows:
        raise BadCheckpoint(f"{title} has {count} special tokens, but the embedding has {rows} rows.")
    return [by_rank.get(number, f"<SPECIAL_{number}>") for number in range(count)]


def _ranks(title: str, vocab: Any, size: Any, special: int) -> dict[bytes, int]:
    """The rank of each token that counts: `size` says how many there are, the `special` ones included."""
    if not isinstance(vocab, list) or not (size is None or isinstance(size, int)):
        raise BadCheckpoint(f"{title} holds no vocabulary.")
    ranks: dict[bytes, int] = {}
    for number, entry in enumerate(vocab if size is None else vocab[: max(size - special, 0)]):
        try:
            token = base64.b64decode(entry["token_bytes"], validate=True)
        except (TypeError, KeyError, binascii.Error, ValueError) as error:
            raise BadCheckpoint(f"{title}: the token of rank {number} has no bytes in base64.") from error
        if not token or ranks.setdefault(token, number) != number:
            raise BadCheckpoint(f"{title}: the token of rank {number} is empty, or the same as another.")
    if size is not None and len(ranks) + special != size:
        raise BadCheckpoint(f"{title} holds {len(ranks)} tokens beside {special} special ones, not {size} together.")
    missing = next((byte for byte in range(256) if bytes([byte]) not in ranks), None)
    if missing is not None:
        raise BadCheckpoint(f"{title}: there is no token for the byte {missing}.")
    return ranks


def _merges(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """All ways to make a token of two, the lowest rank first; of one token, those of the lowest left part."""
    for token in ranks:
        halves = [(token[:place], token[place:]) for place in range(1, len(token))]
        known = [(left, right) for left, right in halves if left in ranks and right in ranks]
        yield from sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))


def _letters() -> dict[int, str]:
    """How byte-level BPE writes each byte: printable ones as themselves, the others as letters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return {byte: chr(byte if byte in printable else next(others)) for byte in range(256)}


_LETTERS = _letters()


def _spelled(token: bytes) -> str:
    return token.decode("latin-1").translate(_LETTERS)
