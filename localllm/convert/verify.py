"""The proof that a GGUF is the same model: its vocabulary gives the token ids of the `tokenizers` library.

Also finds which of several pre-tokenizers with the same structure is the right one, and which ids llama.cpp would not
stop at by itself. Knows no rule of either tokenizer: it compares.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from localllm.convert import corpus
from localllm.convert.header import lay_out, text
from localllm.convert.scratch import skeleton
from localllm.convert.vocabulary import CONTROL, NORMAL, USER_DEFINED, Vocabulary, prepends_space
from localllm.errors import BadCheckpoint, MissingPackage, UnsupportedModel
from localllm.native.vocab import Vocab, open_vocab

RANDOM_TEXTS, SAMPLED_TOKENS, SPECIAL_TOKENS = 400, 400, 40


@dataclass(frozen=True)
class TokenizerProof:
    """On how many texts the ids were equal, and what the comparison leaves out, in words."""

    texts: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mismatch:
    """A text that the two tokenizers read differently."""

    text: str
    expected: list[int]
    found: list[int]


def prove_vocabulary(vocabulary: Vocabulary, reference: Reference) -> tuple[Vocabulary, TokenizerProof]:
    """The vocabulary that gives exactly the ids of the reference, and the proof.

    Tries each pre-tokenizer with the right structure. Adds keys for the stop ids that llama.cpp would not know.

    Raises:
        UnsupportedModel: none gives the same ids; shows the first text that differs.
    """
    notes = list(reference.notes)
    texts = _texts(vocabulary, reference)
    if vocabulary.normalizes_nfc:
        texts = corpus.nfc(texts)
        notes.append("llama.cpp does not compose characters (NFC) before it tokenizes, the checkpoint's tokenizer does")
    first: Mismatch | None = None
    for name in vocabulary.candidates:
        candidate = vocabulary.with_pre(name)
        with _opened(candidate) as vocab:
            mismatch = _compare(vocab, reference, texts, add_special=candidate.states_adds)
            if mismatch is None:
                candidate = candidate.with_stops(_extra_stops(vocab, candidate))
                missed = _missed_stops(vocab, candidate)
                if missed:
                    notes.append(f"generation does not stop at the ids {missed}: GGUF has no key left for them")
                return candidate, TokenizerProof(len(texts), tuple(notes))
        first = first or mismatch
    assert first is not None
    raise UnsupportedModel(
        f"llama.cpp reads text differently than the checkpoint's tokenizer: {first.text[:80]!r} is "
        f"{first.expected[:24]} for the checkpoint and {first.found[:24]} for llama.cpp ({vocabulary.pre}).",
        hint="A model that is fed other tokens than it was trained on answers worse, so nothing is written.",
    )


class Reference:
    """The checkpoint's tokenizer in the `tokenizers` library, and in `notes` what of it llama.cpp cannot do at all.

    What llama.cpp cannot do is switched off here, so that everything else is still compared to the last id.

    Raises:
        BadCheckpoint: the library does not read tokenizer.json.
        MissingPackage: the package `tokenizers` is not installed.
    """

    def __init__(self, tokenizer_json: str) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingPackage(
                "convert needs the package tokenizers.", hint="pip install 'localllm[convert]'"
            ) from error
        try:
            parsed = json.loads(tokenizer_json)
            # Settings for batches in training, no part of how a text is read.
            parsed["truncation"] = parsed["padding"] = None
            self.notes = tuple(_switch_off(parsed))
            self._tokenizer: Any = Tokenizer.from_str(json.dumps(parsed))
        except Exception as error:  # the library raises nothing narrower
            raise BadCheckpoint(f"tokenizer.json is not one that the tokenizers library reads: {error}.") from error

    def encode(self, text: str, *, add_special: bool) -> list[int]:
        """Token ids of a text, special tokens in it read."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special).ids
        return ids

    def decode(self, token: int) -> str:
        """The text of one token."""
        found: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return found


def _switch_off(parsed: dict[str, Any]) -> Iterator[str]:
    pre = parsed.get("pre_tokenizer") or {}
    if pre.get("type") == "Metaspace" and prepends_space(pre):
        mark = pre["replacement"]
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": mark}
        parsed["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": mark}, replace]}
        parsed["pre_tokenizer"] = None
        yield (
            "llama.cpp puts a space before every text, also where the checkpoint's tokenizer puts none: "
            "before a space, or after a special token"
        )
    stripping = [token for token in parsed.get("added_tokens") or () if token.get("lstrip") or token.get("rstrip")]
    for token in stripping:
        token["lstrip"] = token["rstrip"] = False
    if stripping:
        yield f"llama.cpp keeps the spaces around {', '.join(str(token['content']) for token in stripping[:5])}"


def _texts(vocabulary: Vocabulary, reference: Reference) -> list[str]:
    """The built-in texts, random ones, single tokens of this vocabulary, and its special tokens inside text."""
    generator = random.Random(7)
    normal = [number for number, kind in enumerate(vocabulary.types) if kind == NORMAL]
    sampled = generator.sample(normal, min(SAMPLED_TOKENS, len(normal)))
    pieces = [reference.decode(number) for number in sorted(sampled)]
    special = [number for number, kind in enumerate(vocabulary.types) if kind in (CONTROL, USER_DEFINED)]
    named = [number for number in (*vocabulary.special_ids.values(), *vocabulary.stop_ids) if number in set(special)]
    others = generator.sample(special, min(SPECIAL_TOKENS, len(special)))
    marks = [vocabulary.tokens[number] for number in dict.fromkeys([*named, *others])]
    return [
        *corpus.TEXTS,
        *corpus.random_texts(RANDOM_TEXTS),
        *(piece for piece in pieces if "\ufffd" not in piece),
        *corpus.special_texts(marks),
    ]


def _compare(vocab: Vocab, reference: Reference, texts: Sequence[str], *, add_special: bool) -> Mismatch | None:
    """The first text whose ids differ."""
    for sample in texts:
        expected = reference.encode(sample, add_special=add_special)
        found = vocab.tokenize(sample, add_special=add_special, parse_special=True)
        if found != expected:
            return Mismatch(sample, expected, found)
    return None


def _missed_stops(vocab: Vocab, vocabulary: Vocabulary) -> list[int]:
    keyed = vocabulary.extra_stops.values()
    return [number for number in vocabulary.stop_ids if not vocab.ends_generation(number) and number not in keyed]


def _extra_stops(vocab: Vocab, vocabulary: Vocabulary) -> dict[str, int]:
    """Keys for stop ids that llama.cpp would not stop at: it knows one by its key and others by their text."""
    return dict(zip(("eot", "eom"), _missed_stops(vocab, vocabulary), strict=False))


@contextmanager
def _opened(vocabulary: Vocabulary) -> Iterator[Vocab]:
    """The vocabulary as llama.cpp loads it, from a file without weights that is gone afterwards."""
    layout = lay_out({"general.architecture": text("llama"), **vocabulary.keys()}, [])
    with skeleton(layout) as path, open_vocab(path) as vocab:
        yield vocab
