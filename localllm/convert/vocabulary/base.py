"""A tokenizer as llama.cpp has it, and the keys of a GGUF that say so. Knows no file of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from localllm.convert import header
from localllm.convert.header import Keys
from localllm.errors import BadCheckpoint

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""`enum llama_token_type` of llama.h."""

ROLES = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",
    "pad": "padding_token_id",
    "mask": "mask_token_id",
}
"""What transformers calls a special token, and the end of its GGUF key. GGUF has cls under the name bos."""


@dataclass(frozen=True)
class Limit:
    """Something that llama.cpp does differently for a whole kind of tokenizer, whatever is written in the file.

    `says` puts it in words. `touches` is true for a text that it can change; with `tolerated` such a text may differ,
    and it is told. Without, a difference is an error, and the words explain it.
    """

    says: str
    touches: Callable[[str], bool]
    tolerated: bool = False


@dataclass(frozen=True)
class Special:
    """The special tokens of a checkpoint.

    `ids` has the id of each role. `stops` are the ids with which generation ends, whichever key holds them. `adds` says
    which special tokens go around a text; `stated` is whether the tokenizer itself says so, so that it can be proven.
    """

    ids: Mapping[str, int]
    stops: tuple[int, ...]
    adds: Mapping[str, bool]
    stated: bool


@dataclass(frozen=True)
class Vocabulary:
    """One way to write a tokenizer for llama.cpp.

    `model` and `pre` are llama.cpp's names of the kind and the pre-tokenizer. `leading`, `middle` and `trailing` are
    further keys, by where the reference converter puts them. `found` are ids by the stem of their keys that llama.cpp
    would not know by itself. `fits` is whether the tokenizer's own structure says so; without, it is one of many to
    try.
    """

    model: str
    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    special: Special
    templates: Mapping[str, str]
    scores: tuple[float, ...] = ()
    merges: tuple[str, ...] = ()
    leading: Keys = field(default_factory=dict)
    middle: Keys = field(default_factory=dict)
    trailing: Keys = field(default_factory=dict)
    found: Mapping[str, int] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    fits: bool = True

    def with_found(self, found: Mapping[str, int]) -> Vocabulary:
        """The same with keys for ids that llama.cpp would not know by itself."""
        return replace(self, found=found)

    def keys(self) -> Keys:
        """The `tokenizer.*` keys, in the order of the reference converter."""
        keys: Keys = dict(self.leading)
        keys["tokenizer.ggml.model"] = header.text(self.model)
        keys["tokenizer.ggml.pre"] = header.text(self.pre)
        keys["tokenizer.ggml.tokens"] = header.texts(self.tokens)
        if self.scores:
            keys["tokenizer.ggml.scores"] = header.f32s(self.scores)
        keys["tokenizer.ggml.token_type"] = header.i32s(self.types)
        keys |= self.middle
        if self.merges:
            keys["tokenizer.ggml.merges"] = header.texts(self.merges)
        for role, number in self.special.ids.items():
            keys[f"tokenizer.ggml.{ROLES[role]}"] = header.u32(number)
        for stem, number in self.found.items():
            keys[f"tokenizer.ggml.{stem}_token_id"] = header.u32(number)
        for role, adds in self.special.adds.items():
            keys[f"tokenizer.ggml.add_{role}_token"] = header.flag(adds)
        keys |= _template_keys(self.templates) | self.trailing
        # llama.cpp's own default depends on the pre-tokenizer, so it is never relied on.
        keys.setdefault("tokenizer.ggml.add_bos_token", header.flag(self.special.adds.get("bos", False)))
        return keys


def _template_keys(templates: Mapping[str, str]) -> Keys:
    keys: Keys = {}
    others = [name for name in templates if name != "default"]
    for name in others:
        keys[f"tokenizer.chat_template.{name}"] = header.text(templates[name])
    if others:
        keys["tokenizer.chat_templates"] = header.texts(others)
    if "default" in templates:
        keys["tokenizer.chat_template"] = header.text(templates["default"])
    return keys


def steps(part: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or post-processor of tokenizer.json, however they are nested.

    `inner` is what tokenizer.json calls the list inside a Sequence: `normalizers`, `pretokenizers`, `processors`.

    Raises:
        BadCheckpoint: one of them does not say what it is.
    """
    if part is None:
        return []
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise BadCheckpoint(f"One of the tokenizer's {inner} does not say what it is: {str(part)[:80]}.")
    if part.get("type") == "Sequence":
        return [step for nested in part.get(inner) or () for step in steps(nested, inner)]
    return [part]


def text_of(token: Any) -> str | None:
    """The text of a special token, which transformers writes as a string or as an object."""
    found = token.get("content") if isinstance(token, Mapping) else token
    return found if isinstance(found, str) else None


def space_prefix(adds: Any) -> Keys:
    """The key for a space before a text, where the tokenizer says whether there is one."""
    return {"tokenizer.ggml.add_space_prefix": header.flag(adds)} if isinstance(adds, bool) else {}


def by_text(tokens: Sequence[str]) -> dict[str, int]:
    """The id of each text."""
    return {token: number for number, token in enumerate(tokens)}
