"""Where transformers and sentencepiece are installed: the same files give the same token ids there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localllm.convert.corpus import class_texts, random_texts
from localllm.convert.header import text
from localllm.convert.reference import Reference
from localllm.convert.verify import opened, prove_vocabulary
from localllm.convert.vocabulary import read_source, read_vocabularies
from localllm.convert.vocabulary.splits import GPT2
from tests.convert.helpers import slow_files, tokenizer_files, train_byte_level
from tests.convert.piece_files import TEXTS, piece_files, trained

pytestmark = [pytest.mark.slow, pytest.mark.all_texts]

SPECIAL = ("x</s>y", "<s> a", "<bos>a<eos>", "a<mask> <mask>b", "[CLS] a [SEP]b", "<extra_id_0>b")


def _texts() -> list[str]:
    return [*TEXTS, *random_texts(400), *class_texts(400), *SPECIAL]


def _bytes(content: Any) -> bytes:
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def _files(model_type: str, minilm: Path) -> dict[str, bytes]:
    """The files that a model of this type had before tokenizer.json."""
    names = {"llama": "tokenizer.model", "gemma": "tokenizer.model", "t5": "spiece.model"}
    names["xlm-roberta"] = "sentencepiece.bpe.model"
    if model_type in names:
        return {names[model_type]: trained(model_type)}
    if model_type == "bert":
        return {"vocab.txt": (minilm / "vocab.txt").read_bytes()}
    return {name: _bytes(content) for name, content in slow_files(train_byte_level([GPT2])).items()}


MARKS = {
    **{f"{role}_token": "<|im_start|>" for role in ("bos", "cls")},
    **{f"{role}_token": "<|im_end|>" for role in ("eos", "sep")},
    **{f"{role}_token": "<|endoftext|>" for role in ("unk", "pad", "mask")},
}
ADDS = {"add_bos_token": True}
"""transformers 5 adds none where nothing says so; older versions did, for Llama and Gemma."""


@pytest.mark.parametrize(
    ("tokenizer_class", "model_type", "settings"),
    [
        ("GPT2Tokenizer", "gpt2", {"add_bos_token": True, "bos_token": "<|im_start|>", "pad_token": "<pad>"}),
        ("Qwen2Tokenizer", "qwen2", {}),
        ("RobertaTokenizer", "roberta", MARKS),
        ("BertTokenizer", "bert", {}),
        ("BertTokenizer", "bert", {"do_lower_case": False, "strip_accents": True}),
        ("LlamaTokenizer", "llama", {"legacy": False, **ADDS}),
        ("GemmaTokenizer", "gemma", ADDS),
        ("T5Tokenizer", "t5", {}),
        ("XLMRobertaTokenizer", "xlm-roberta", {}),
    ],
)
def test_transformers_gives_the_same_ids(
    tokenizer_class: str, model_type: str, settings: dict[str, Any], minilm: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")
    settings = {"tokenizer_class": tokenizer_class, **settings}
    config = {"model_type": model_type, "eos_token_id": 0}
    checkpoint = tokenizer_files(None, tokenizer_config__json=settings, config__json=config)
    written = {"tokenizer_config.json": _bytes(settings), "config.json": _bytes(config)}
    for name, content in {**_files(model_type, minilm), **written}.items():
        (tmp_path / name).write_bytes(content)
        checkpoint.files.contents[name] = content  # type: ignore[attr-defined]
    checkpoint.names = checkpoint.files.names()
    ours = Reference(read_source(checkpoint, 1 << 16).document)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    texts = _texts()
    assert ours.encode(texts, add_special=True) == [theirs(sample).input_ids for sample in texts]


def test_sentencepiece_gives_the_same_ids() -> None:
    """With its whole table of characters, which the models kept for tests have only in part."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="the package sentencepiece is not installed")
    from make_piece_models import MODELS, train

    content = train({**MODELS["t5"], "normalization_rule_name": "nmt_nfkc"})
    checkpoint = piece_files(content, "T5Tokenizer")
    source = read_source(checkpoint, 600)
    vocabulary, proof = prove_vocabulary(read_vocabularies(checkpoint, source, 600), Reference(source.document))
    assert all("drops marks" in note for note in proof.notes)
    processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    texts = [*TEXTS, *random_texts(500), *class_texts(500)]
    with opened(vocabulary, {"general.architecture": text("llama")}) as vocab:
        found = [vocab.tokenize(sample, add_special=False, parse_special=False) for sample in texts]
    assert found == [processor.encode(sample) for sample in texts]
