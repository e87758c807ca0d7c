"""How a byte-level tokenizer splits text before it merges, read by structure, and what llama.cpp calls that.

The `pre_tokenizer` of a tokenizer.json is brought to a list of regular expressions. Only a list that is known gets a
name; the proof that the name is right is made by `verify`, which compares token ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localllm.errors import UnsupportedModel

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+@"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*@"
)
_SLASH_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGIT, DIGITS = r"\p{N}", r"\p{N}+"
LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_TAIL}"
QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_TAIL}"
TEKKEN = _CASED.replace("@", "") + rf"|\p{{N}}|{_SLASH_TAIL}"
GPT4O = _CASED.replace("@", _CONTRACTIONS + "?") + rf"|\p{{N}}{{1,3}}|{_SLASH_TAIL}"
SEED_CODER = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK_V3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Known:
    """A pre-tokenizer of llama.cpp: its name, the expressions it splits by, whether whole words skip the merges."""

    name: str
    splits: tuple[str, ...]
    ignores_merges: bool = False


KNOWN = (
    Known("gpt-2", (GPT2,)),
    Known("smollm", (DIGIT, GPT2)),
    Known("llama-bpe", (LLAMA3,), ignores_merges=True),
    Known("smaug-bpe", (LLAMA3,)),
    Known("qwen2", (QWEN2,)),
    Known("tekken", (TEKKEN,), ignores_merges=True),
    Known("gpt-4o", (GPT4O,)),
    # The same with combining marks inside words, which `gpt-4o` of llama.cpp leaves outside.
    Known("granite-embed-multi-97m", (GPT4O,), ignores_merges=True),
    Known("seed-coder", (SEED_CODER,)),
    Known("deepseek-coder", (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGIT)),
    Known("deepseek-v3", (r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3)),
)
"""Read in `llm_tokenizer_bpe` of llama.cpp's llama-vocab.cpp, which quotes the expressions of tokenizer.json."""


def splits(pre_tokenizer: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The regular expressions by which a byte-level pre-tokenizer isolates pieces, in order.

    Raises:
        UnsupportedModel: it has a step that is not such an expression, or does not work on bytes.
    """
    found: list[str] = []
    byte_level = False
    for step in _steps(pre_tokenizer):
        kind = step.get("type")
        if kind == "ByteLevel":
            if step.get("add_prefix_space", True):
                raise UnsupportedModel("tokenizer.json: llama.cpp has no byte-level tokenizer that adds a space.")
            byte_level = True
            found += [GPT2] if step.get("use_regex", True) else []
        elif kind == "Digits":
            found.append(DIGIT if step.get("individual_digits") else DIGITS)
        elif kind == "Split" and _isolates(step):
            found.append(str(step["pattern"]["Regex"]))
        else:
            raise UnsupportedModel(f"tokenizer.json: the pre-tokenizer step {dict(step)} is not known.")
    if not byte_level:
        raise UnsupportedModel("tokenizer.json: the pre-tokenizer does not work on bytes.")
    return tuple(found)


def candidates(found: Sequence[str], ignores_merges: bool) -> list[str]:
    """llama.cpp's names for these expressions, the one that treats merges the same way first.

    Raises:
        UnsupportedModel: the expressions are not known.
    """
    known = [entry for entry in KNOWN if entry.splits == tuple(found)]
    if not known:
        raise UnsupportedModel(
            f"tokenizer.json splits text in a way that is not known: {list(found)}.",
            hint="A name that only resembles it would give wrong tokens, so nothing is guessed.",
        )
    return [entry.name for entry in sorted(known, key=lambda entry: entry.ignores_merges != ignores_merges)]


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if pre_tokenizer is None:
        return []
    if pre_tokenizer.get("type") == "Sequence":
        return [step for part in pre_tokenizer["pretokenizers"] for step in _steps(part)]
    return [pre_tokenizer]


def _isolates(step: Mapping[str, Any]) -> bool:
    """Whether a Split keeps matches and the rest as pieces. Removing what does not match is the same for expressions
    that match everything, as those of tiktoken do."""
    if "Regex" not in step.get("pattern", {}):
        return False
    return (step.get("behavior"), bool(step.get("invert"))) in {("Isolated", False), ("Removed", True)}
