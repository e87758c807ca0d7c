#!/usr/bin/env python3
"""Trains the small SentencePiece models of the tests, and keeps what SentencePiece itself makes of some texts.

    tools/make_piece_models.py [OUTDIR]

Needs the package sentencepiece. Writes, by default to `tests/convert/pieces`, a model for each kind that checkpoints
have, and `ids.json` with the ids of the built-in texts. A model's settings are those of the family that it is named
after. They learn from the manual that Python itself holds, so that another version of Python gives other pieces.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from pydoc_data import topics
from typing import Any

import sentencepiece

from localllm.convert import corpus

OUTDIR = Path(__file__).parents[1] / "tests" / "convert" / "pieces"

WHITE_SPACE = (*range(9, 14), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)

RULES = {
    "\uff21": "A",
    "\ufb01": "fi",
    "\u338f": "kg",
    "\u00bd": "1/2",
    "e\u0301": "\u00e9",
    "o\u0302": "\u00f4",
    **{chr(number): " " for number in WHITE_SPACE},
    "\u00ad": "",
}
"""A few of the replacements of `nmt_nfkc`, whose whole table would be thirty times as large as a model."""

_BYTES: Mapping[str, Any] = {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "allow_whitespace_only_pieces": True,
    "split_digits": True,
    "character_coverage": 0.999,
    "vocab_size": 900,
}
_UNIGRAM: Mapping[str, Any] = {
    "model_type": "unigram",
    "vocab_size": 500,
    "character_coverage": 0.999,
    "hard_vocab_limit": False,
    "required_chars": "\u00f4\u0323",
}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "llama": _BYTES,
    "gemma": {
        **_BYTES,
        "add_dummy_prefix": False,
        "pad_id": 0,
        "eos_id": 1,
        "bos_id": 2,
        "unk_id": 3,
        "bos_piece": "<bos>",
        "eos_piece": "<eos>",
        "user_defined_symbols": ["<mask>", "\n\n", "\n", "\t\t", "\u2581\u2581", "\u2581\u2581\u2581\u2581"],
    },
    "xlm-roberta": _UNIGRAM,
    "t5": {**_UNIGRAM, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
}


def numbers(characters: str) -> str:
    """Characters as SentencePiece's tables of rules have them."""
    return " ".join(f"{ord(character):X}" for character in characters)


def train(settings: Mapping[str, Any]) -> bytes:
    """The file of a model with these settings."""
    model = io.BytesIO()
    manual = [line for name in sorted(topics.topics)[:40] for line in topics.topics[name].splitlines() if line.strip()]
    sentences = [*manual, *(text.replace("\0", "") for text in corpus.TEXTS if text.strip())]
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as rules:
        if "normalization_rule_name" not in settings:
            for before, after in RULES.items():
                print(
                    " ".join(f"{ord(c):X}" for c in before),
                    " ".join(f"{ord(c):X}" for c in after),
                    sep="\t",
                    file=rules,
                )
            rules.flush()
            settings = {**settings, "normalization_rule_tsv": rules.name}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_writer=model, num_threads=1, minloglevel=2, **settings
        )
    return model.getvalue()


def make(outdir: Path) -> None:
    outdir.mkdir(parents=True, exist_ok=True)
    ids = {}
    for name, settings in MODELS.items():
        content = train(settings)
        (outdir / f"{name}.model").write_bytes(content)
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        ids[name] = [processor.encode(text) for text in (*corpus.TEXTS, *corpus.BROKEN)]
        print(f"{name}: {len(content):,} bytes, {processor.get_piece_size()} pieces")
    (outdir / "ids.json").write_text(json.dumps(ids, separators=(",", ":")) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outdir", type=Path, nargs="?", default=OUTDIR)
    make(parser.parse_args().outdir)


if __name__ == "__main__":
    main()
