"""The proof that a GGUF is the same model: its vocabulary gives the token ids of the `tokenizers` library.

Also finds which of several ways to write a vocabulary is the right one, and which ids llama.cpp would not know by
itself. Knows no rule of either tokenizer: it compares.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from localllm.convert import corpus
from localllm.convert.header import Keys, lay_out, text
from localllm.convert.reference import Reference
from localllm.convert.scratch import skeleton
from localllm.convert.shortened import most_promising
from localllm.convert.vocabulary import CONTROL, NORMAL, USER_DEFINED, Vocabulary
from localllm.errors import UnsupportedModel
from localllm.native.vocab import Vocab, open_vocab

RANDOM_TEXTS, CLASS_TEXTS, PIECE_TEXTS, SAMPLED_TOKENS, SPECIAL_TOKENS = 1000, 1000, 1000, 400, 40
SHOWN_IDS = 24


@dataclass(frozen=True)
class Mismatch:
    """A text that the two tokenizers read differently."""

    text: str
    expected: list[int]
    found: list[int]

    def __str__(self) -> str:
        return (
            f"{self.text[:80]!r} is {self.expected[:SHOWN_IDS]} for the checkpoint and {self.found[:SHOWN_IDS]} "
            f"for llama.cpp"
        )


@dataclass(frozen=True)
class TokenizerProof:
    """On how many texts ids were compared, on how many they differ, and what is worth knowing of that, in words.

    All that differ from the checkpoint's own tokenizer count, also those that differ in every GGUF of its kind.
    `mismatch` is the first difference that nothing excuses; it is only there where the person allowed it.
    """

    texts: int
    different: int = 0
    mismatch: Mismatch | None = None
    notes: tuple[str, ...] = ()


def prove_vocabulary(
    candidates: Sequence[Vocabulary],
    reference: Reference,
    model: Keys | None = None,
    *,
    allow_mismatch: bool = False,
) -> tuple[Vocabulary, TokenizerProof]:
    """The one of `candidates` that gives exactly the ids of the reference, and the proof.

    `model` has the other keys of the file to be: llama.cpp looks at some of them. Where no candidate is exact, the
    comparison is repeated without what llama.cpp cannot do around special tokens. Adds keys for ids that llama.cpp
    would not know by itself.

    Raises:
        UnsupportedModel: none gives the same ids, and `allow_mismatch` is not set; shows the first text that differs.
    """
    trials: list[_Trial] = []
    model = model or {"general.architecture": text("llama")}
    references = _with_lenient(reference)
    texts = [_texts(candidates[0], compared) for compared in references]
    for group in _in_order(candidates, reference):
        begun = len(trials)
        for compared, samples in zip(references, texts, strict=True):
            for number, candidate in enumerate(group):
                trial = _try(candidate, compared, samples, model)
                trials.append(trial)
                if trial.proof.mismatch is None:
                    return trial.vocabulary, _counted(trial.proof, trials[begun + number].proof)
    best = min(trials, key=lambda trial: trial.proof.different)
    if allow_mismatch:
        return best.vocabulary, replace(best.proof, notes=(_loud(best), *best.proof.notes))
    raise UnsupportedModel(
        f"llama.cpp reads text differently than the checkpoint's tokenizer: {best.proof.mismatch}"
        f" ({best.vocabulary.model}/{best.vocabulary.pre}). So it does with {best.proof.different} of"
        f" {best.proof.texts} texts.{''.join(f' {reason}.' for reason in best.reasons)}",
        hint="A model that is fed other tokens than it was trained on answers worse, so nothing is written. "
        "--allow-tokenizer-mismatch writes the file all the same.",
    )


@dataclass(frozen=True)
class _Trial:
    """A candidate that was compared. `reasons` say in words what llama.cpp does differently with this kind."""

    vocabulary: Vocabulary
    proof: TokenizerProof
    reasons: tuple[str, ...]


def _loud(trial: _Trial) -> str:
    reasons = "".join(f" {reason}." for reason in trial.reasons)
    return (
        f"THE TOKENIZER IS NOT THE SAME: {trial.proof.different} of {trial.proof.texts} texts get other token ids. "
        f"{trial.proof.mismatch}.{reasons} The model will answer worse on such texts"
    )


def _with_lenient(reference: Reference) -> list[Reference]:
    """What to compare with: the reference, and then it without what llama.cpp cannot do, where there is anything."""
    lenient = reference.lenient()
    return [reference] if lenient is None else [reference, lenient]


def _in_order(candidates: Sequence[Vocabulary], reference: Reference) -> Iterator[list[Vocabulary]]:
    """The candidates that the structure of the tokenizer names, and then those of the others that may be right."""
    fitting = [candidate for candidate in candidates if candidate.fits]
    yield fitting
    yield most_promising([c for c in candidates if not c.fits], reference, at_least=0 if fitting else 1)


def prove_file(path: Path, candidate: Vocabulary, reference: Reference) -> TokenizerProof:
    """Whether llama.cpp gives the ids of the reference with the vocabulary of the GGUF at `path`.

    `candidate` is that vocabulary as the checkpoint gives it: it says what llama.cpp does differently with its kind,
    and which texts to compare. As with `prove_vocabulary`, the comparison is repeated without what llama.cpp cannot do.

    Raises:
        BadModelFile, UnsupportedModel: llama.cpp does not load it.
    """
    with open_vocab(path) as vocab:
        trials = []
        for compared in _with_lenient(reference):
            trials.append(_compare(vocab, candidate, compared, _texts(candidate, compared)))
            if trials[-1].proof.mismatch is None:
                return _counted(trials[-1].proof, trials[0].proof)
    return min(trials, key=lambda trial: trial.proof.different).proof


def _counted(proof: TokenizerProof, strict: TokenizerProof) -> TokenizerProof:
    """The proof with the texts that differ when nothing of the checkpoint's tokenizer is switched off."""
    return replace(proof, texts=strict.texts, different=strict.different)


def _try(candidate: Vocabulary, reference: Reference, texts: Sequence[str], model: Keys) -> _Trial:
    """Compare all texts with the vocabulary as llama.cpp loads it."""
    with opened(candidate, model) as vocab:
        return _compare(vocab, candidate.with_found(_unknown_ids(vocab, candidate)), reference, texts)


def _compare(vocab: Vocab, candidate: Vocabulary, reference: Reference, texts: Sequence[str]) -> _Trial:
    add_special = candidate.special.stated
    expected = reference.encode(texts, add_special=add_special)
    differing, first = [], None
    for sample, ids in zip(texts, expected, strict=True):
        found = vocab.tokenize(sample, add_special=add_special, parse_special=True)
        if found == ids:
            continue
        differing.append(sample)
        excused = any(limit.tolerated and limit.touches(sample) for limit in candidate.limits)
        if first is None and not excused:
            first = Mismatch(sample, ids, found)
    missed = _missed_stops(vocab, candidate)
    notes = [*reference.notes, *_found_limits(candidate, differing, len(texts), tolerated=True)]
    if missed:
        notes.append(f"generation does not stop at the ids {missed}: GGUF has no key left for them")
    if not candidate.fits:
        notes.append(f"that llama.cpp's {candidate.pre} is the right way to split text was found by trying")
    proof = TokenizerProof(len(texts), len(differing), first, tuple(notes))
    return _Trial(candidate, proof, tuple(_found_limits(candidate, differing, len(texts), tolerated=False)))


def _found_limits(candidate: Vocabulary, differing: Sequence[str], texts: int, *, tolerated: bool) -> Iterator[str]:
    """The limits of llama.cpp that a difference shows."""
    for limit in candidate.limits:
        touched = [sample for sample in differing if limit.touches(sample)]
        if touched and limit.tolerated == tolerated:
            # Where there is one reason for all of them, the count beside the tokenizer is this one.
            count = f"{len(touched)} of {texts} texts get other token ids, " if len(touched) < len(differing) else ""
            yield f"{limit.says} ({count}{touched[0][:40]!r} first)"


def _texts(vocabulary: Vocabulary, reference: Reference) -> list[str]:
    """The built-in texts, random ones, tokens of this vocabulary, and its special tokens inside text."""
    generator = random.Random(7)
    normal = [number for number, kind in enumerate(vocabulary.types) if kind == NORMAL]
    sampled = sorted(generator.sample(normal, min(SAMPLED_TOKENS, len(normal))))
    pieces = [piece for piece in reference.decode(sampled) if "\ufffd" not in piece]
    special = [number for number, kind in enumerate(vocabulary.types) if kind in (CONTROL, USER_DEFINED)]
    ids = (*vocabulary.special.ids.values(), *vocabulary.special.stops)
    named = [number for number in ids if number in set(special)]
    others = generator.sample(special, min(SPECIAL_TOKENS, len(special)))
    marks = [vocabulary.tokens[number] for number in dict.fromkeys([*named, *others])]
    return [
        *corpus.TEXTS,
        *corpus.BROKEN,
        *corpus.random_texts(RANDOM_TEXTS),
        *corpus.class_texts(CLASS_TEXTS),
        *pieces,
        *(corpus.piece_texts([*pieces, *marks], PIECE_TEXTS) if pieces else ()),
        *corpus.special_texts(marks),
    ]


def _unknown_ids(vocab: Vocab, vocabulary: Vocabulary) -> dict[str, int]:
    """Keys for ids that llama.cpp does not find by the texts of the tokens: of stops, and of filling in the middle."""
    found = dict(zip(("eot", "eom"), _missed_stops(vocab, vocabulary), strict=False))
    ids = {name: number for number, name in enumerate(vocabulary.tokens) if name in _MIDDLE}
    known = vocab.fill_in_middle()
    return found | {_MIDDLE[name]: number for name, number in ids.items() if known[_MIDDLE[name]] < 0}


_MIDDLE: Mapping[str, str] = {
    "[PREFIX]": "fim_pre",
    "[SUFFIX]": "fim_suf",
    "[MIDDLE]": "fim_mid",
    "<[fim-prefix]>": "fim_pre",
    "<[fim-suffix]>": "fim_suf",
    "<[fim-middle]>": "fim_mid",
}
"""Tokens around a gap in a text that llama.cpp does not know by themselves, and the stems of their keys."""


def _missed_stops(vocab: Vocab, vocabulary: Vocabulary) -> list[int]:
    keyed = vocabulary.found.values()
    return [n for n in vocabulary.special.stops if not vocab.ends_generation(n) and n not in keyed]


@contextmanager
def opened(vocabulary: Vocabulary, model: Keys) -> Iterator[Vocab]:
    """The vocabulary as llama.cpp loads it, from a file without weights that is gone afterwards."""
    with skeleton(lay_out({**model, **vocabulary.keys()}, [])) as path, open_vocab(path) as vocab:
        yield vocab
