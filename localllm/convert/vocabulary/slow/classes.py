"""What the tokenizer classes of transformers do that their files do not say.

Source: the modules `tokenization_*.py` of transformers, versions 4 and 5, and their converters to tokenizer.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from localllm.convert.config import Config
from localllm.convert.vocabulary.pretokenizers import QWEN2, QWEN35
from localllm.errors import UnsupportedModel

Kind = Literal["byte-level", "wordpiece", "sentencepiece"]


@dataclass(frozen=True)
class Around:
    """Roles of the special tokens before a text, after it, and between the two texts of a pair."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    between: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenizerClass:
    """A tokenizer class.

    `tokens` are its special tokens by role, where the files name no others. `around` are those that it puts around a
    text; None leaves that to `add_bos_token` and `add_eos_token`, where `adds_bos` is the default of the first.
    `expression` splits text for byte-level BPE (empty is that of GPT-2), `composes` says that text is composed before.
    Of a SentencePiece model `shifted` moves the ids as fairseq has them, `sentinels` is how many tokens T5 puts behind
    the pieces, `splits_words` says that text is split at white space before.
    `own` are the model types whose tokenizer it really is: others name it and have a tokenizer.json that differs.
    """

    kind: Kind
    tokens: Mapping[str, str] = field(default_factory=dict)
    around: Around | None = None
    adds_bos: bool = False
    expression: str = ""
    composes: bool = False
    shifted: bool = False
    sentinels: int = 0
    splits_words: bool = False
    own: tuple[str, ...] = ()

    def named(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings with the special tokens of the class where they name none."""
        return {**{f"{role}_token": text for role, text in self.tokens.items()}, **settings}


_GPT2 = dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>")
_QWEN = dict.fromkeys(("eos", "pad", "unk"), "<|endoftext|>")
_PLAIN = {"bos": "<s>", "eos": "</s>", "unk": "<unk>"}
_ROBERTA = {**_PLAIN, "sep": "</s>", "cls": "<s>", "pad": "<pad>", "mask": "<mask>"}
_GEMMA = {"bos": "<bos>", "eos": "<eos>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
_BERT = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
_ENCLOSED = Around(("cls",), ("sep",), ("sep",))
_ENCLOSED_TWICE = Around(("cls",), ("sep",), ("sep", "sep"))

CLASSES: Mapping[str, TokenizerClass] = {
    "GPT2Tokenizer": TokenizerClass("byte-level", _GPT2, own=("gpt2", "gpt_neo", "gptj", "opt", "phi")),
    "CodeGenTokenizer": TokenizerClass("byte-level", _GPT2, own=("codegen", "phi")),
    "GPTNeoXTokenizer": TokenizerClass(
        "byte-level", {**_GPT2, "pad": "<|padding|>"}, composes=True, own=("gpt_neox", "gpt_neox_japanese")
    ),
    "Qwen2Tokenizer": TokenizerClass(
        *("byte-level", _QWEN),
        expression=QWEN2,
        composes=True,
        own=("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next"),
    ),
    "Qwen3_5Tokenizer": TokenizerClass(
        *("byte-level", _QWEN),
        expression=QWEN35,
        composes=True,
        own=("qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"),
    ),
    "RobertaTokenizer": TokenizerClass("byte-level", _ROBERTA, _ENCLOSED_TWICE, own=("roberta",)),
    "BertTokenizer": TokenizerClass(
        *("wordpiece", _BERT, _ENCLOSED), own=("bert", "distilbert", "electra", "nomic_bert", "mobilebert")
    ),
    "DistilBertTokenizer": TokenizerClass("wordpiece", _BERT, _ENCLOSED, own=("distilbert",)),
    "MPNetTokenizer": TokenizerClass("wordpiece", {**_ROBERTA, "unk": "[UNK]"}, _ENCLOSED_TWICE, own=("mpnet",)),
    "LlamaTokenizer": TokenizerClass(
        "sentencepiece", _PLAIN, adds_bos=True, own=("llama", "mistral", "mixtral", "phi3", "code_llama")
    ),
    "CodeLlamaTokenizer": TokenizerClass("sentencepiece", _PLAIN, adds_bos=True, own=("code_llama",)),
    "GemmaTokenizer": TokenizerClass(
        *("sentencepiece", _GEMMA), adds_bos=True, own=("gemma", "gemma2", "gemma3", "gemma3_text", "recurrent_gemma")
    ),
    "T5Tokenizer": TokenizerClass(
        *("sentencepiece", {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"}, Around((), ("eos",), ("eos",))),
        sentinels=100,
        splits_words=True,
        own=("t5", "mt5", "umt5"),
    ),
    "XLMRobertaTokenizer": TokenizerClass(
        *("sentencepiece", _ROBERTA, Around(("bos",), ("eos",), ("eos", "eos"))),
        shifted=True,
        splits_words=True,
        own=("xlm-roberta", "xlm-roberta-xl"),
    ),
    # No class of its own: the model itself says everything.
    "TokenizersBackend": TokenizerClass("sentencepiece"),
    "PreTrainedTokenizer": TokenizerClass("sentencepiece"),
}

ONE_COMMAND = (
    "python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('FOLDER').save_pretrained('FOLDER')\""
)
MAKE_ONE = f"Make a tokenizer.json with transformers, where the tokenizer is known: {ONE_COMMAND}"
"""What to do about a tokenizer that is only known to transformers."""


def find(title: str, settings: Mapping[str, Any], config: Config, kind: Kind, file: str) -> tuple[str, TokenizerClass]:
    """The name and the class of a tokenizer whose `file` is of this kind, named by the settings or the model's type.

    Raises:
        UnsupportedModel: no class is named, or one that is not known, or one that reads other files.
    """
    stated = settings.get("tokenizer_class") or config.get("tokenizer_class")
    name = str(stated).removesuffix("Fast") if stated else _by_model_type(config.get("model_type"), kind)
    if not name:
        raise UnsupportedModel(
            f"{title}: nothing says which tokenizer class {file} belongs to, and so how text is split.",
            hint=f"Set tokenizer_class in tokenizer_config.json. Or else: {MAKE_ONE}",
        )
    found = CLASSES.get(name)
    if found is None or found.kind != kind:
        raise UnsupportedModel(
            f"{title}: {file} belongs to the tokenizer class {name}, of which it is not known how it splits text.",
            hint=MAKE_ONE,
        )
    return name, found


def _by_model_type(model_type: Any, kind: Kind) -> str:
    return next((name for name, one in CLASSES.items() if one.kind == kind and model_type in one.own), "")
