"""How a tokenizer splits text before it merges: the `pre_tokenizer` of tokenizer.json as a list of expressions.

Different spellings of one way to split become one list. Knows nothing of llama.cpp.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from localllm.convert.vocabulary.base import steps

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGIT, DIGITS = r"\p{N}", r"\p{N}+"
PUNCTUATION = r"[\p{P}!-/:-@\[-`{-~]"


def splits(pre_tokenizer: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The regular expressions whose matches become pieces, in order. A step that is none stands as its JSON."""
    found = [_expression(step) for step in steps(pre_tokenizer, "pretokenizers")]
    return tuple(expression for expression in found if expression)


def adds_space(pre_tokenizer: Mapping[str, Any] | None) -> bool:
    """Whether a step that works on bytes puts a space before a text that has none."""
    parts = steps(pre_tokenizer, "pretokenizers")
    return any(part.get("type") == "ByteLevel" and part.get("add_prefix_space", True) for part in parts)


def _expression(step: Mapping[str, Any]) -> str:
    kind = step.get("type")
    if kind == "ByteLevel":
        return GPT2 if step.get("use_regex", True) else ""
    if kind == "Digits":
        return DIGIT if step.get("individual_digits") else DIGITS
    if kind == "Punctuation" and step.get("behavior", "Isolated") in ("Isolated", "Contiguous"):
        return PUNCTUATION + ("+" if step.get("behavior") == "Contiguous" else "")
    if kind == "Split" and _isolates(step):
        pattern = step["pattern"]
        return str(pattern["Regex"]) if "Regex" in pattern else re.escape(pattern["String"])
    return json.dumps(step, sort_keys=True)


def _isolates(step: Mapping[str, Any]) -> bool:
    """Whether a Split keeps matches and the rest as pieces. Removing what does not match is the same for expressions
    that match everything, as those of tiktoken do."""
    return (step.get("behavior"), bool(step.get("invert"))) in {("Isolated", False), ("Removed", True)}
