"""A checkpoint's tokenizer files as the keys of a GGUF: tokens, types, merges, special tokens, chat template.

Two kinds are understood: byte-level BPE (llama.cpp's `gpt2`) and BPE with byte fallback as SentencePiece makes it
(llama.cpp's `llama`). Knows structure only; `verify` proves that the result gives the same token ids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from localllm.convert import header, pretokenizers, special
from localllm.convert.checkpoint import Checkpoint
from localllm.convert.header import Keys
from localllm.errors import BadCheckpoint, UnsupportedModel

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""`enum llama_token_type` of llama.h."""

_METASPACE = "\u2581"
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
# What models emit as marks although their tokenizers do not call it special. llama.cpp must not read it in plain text.
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", re.DOTALL)


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as llama.cpp has it.

    `candidates` are llama.cpp's pre-tokenizers that have the right structure. `stop_ids` are the ids with which
    generation ends, whichever key holds them. `adds` says which special tokens go around a text; `states_adds` is
    whether tokenizer.json itself says so, so that it can be proven.
    """

    model: str
    candidates: tuple[str, ...]
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    scores: tuple[float, ...]
    merges: tuple[str, ...]
    special_ids: Mapping[str, int]
    stop_ids: tuple[int, ...]
    adds: Mapping[str, bool]
    states_adds: bool
    add_space_prefix: bool | None
    templates: Mapping[str, str]
    extra_stops: Mapping[str, int]
    normalizes_nfc: bool = False

    @property
    def pre(self) -> str:
        """llama.cpp's name of the pre-tokenizer."""
        return self.candidates[0]

    def with_pre(self, name: str) -> Vocabulary:
        """The same with another candidate first."""
        return replace(self, candidates=(name, *(other for other in self.candidates if other != name)))

    def with_stops(self, extra: Mapping[str, int]) -> Vocabulary:
        """The same with more keys for ids that end generation."""
        return replace(self, extra_stops=extra)

    def keys(self) -> Keys:
        """The `tokenizer.*` keys, in the order of the reference converter."""
        keys: Keys = {}
        if self.add_space_prefix is not None:
            keys["tokenizer.ggml.add_space_prefix"] = header.flag(self.add_space_prefix)
        keys["tokenizer.ggml.model"] = header.text(self.model)
        keys["tokenizer.ggml.pre"] = header.text(self.pre)
        keys["tokenizer.ggml.tokens"] = header.texts(self.tokens)
        if self.scores:
            keys["tokenizer.ggml.scores"] = header.f32s(self.scores)
        keys["tokenizer.ggml.token_type"] = header.i32s(self.types)
        if self.merges:
            keys["tokenizer.ggml.merges"] = header.texts(self.merges)
        for role, number in self.special_ids.items():
            keys[f"tokenizer.ggml.{special.ROLES[role]}"] = header.u32(number)
        for role, number in self.extra_stops.items():
            keys[f"tokenizer.ggml.{role}_token_id"] = header.u32(number)
        for role, adds in self.adds.items():
            keys[f"tokenizer.ggml.add_{role}_token"] = header.flag(adds)
        keys |= _template_keys(self.templates)
        # llama.cpp's own default depends on the pre-tokenizer, so it is never relied on.
        keys.setdefault("tokenizer.ggml.add_bos_token", header.flag(self.adds.get("bos", False)))
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


def tokenizer_text(checkpoint: Checkpoint) -> str:
    """The text of tokenizer.json.

    Raises:
        BadCheckpoint: it is missing.
    """
    found = checkpoint.text("tokenizer.json")
    if found is None:
        hint = "Copy tokenizer.json from where the checkpoint comes from."
        if "tokenizer.model" in checkpoint.names:
            hint = (
                "tokenizer.model alone is not read; AutoTokenizer.from_pretrained(…).save_pretrained(…) adds the other."
            )
        raise BadCheckpoint(f"{checkpoint.files.title} has no tokenizer.json.", hint=hint)
    return found


def read_vocabulary(checkpoint: Checkpoint, rows: int) -> Vocabulary:
    """The vocabulary of a checkpoint whose embedding has `rows` rows. `tokenizers` must be able to read tokenizer.json.

    Raises:
        BadCheckpoint: tokenizer.json contradicts itself or does not fit the embedding.
        UnsupportedModel: a kind of tokenizer that is not known; nothing is guessed.
    """
    parsed = checkpoint.require_json("tokenizer.json")
    settings = checkpoint.json("tokenizer_config.json") or {}
    model = parsed.get("model") or {}
    if model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise UnsupportedModel(f"tokenizer.json: a tokenizer of type {model.get('type')!r} is not converted; BPE is.")
    added = parsed.get("added_tokens") or []
    tokens, types = _tokens(checkpoint.files.title, model["vocab"], added, rows)
    ids = {token: number for number, token in enumerate(tokens)}
    special_ids, stop_ids = special.special_ids(checkpoint, settings, ids)
    stated = special.stated_adds(parsed.get("post_processor"), {role: tokens[n] for role, n in special_ids.items()})
    wanted = {role: settings.get(f"add_{role}_token") for role in ("bos", "eos") if role not in stated}
    configured = {role: adds and role in special_ids for role, adds in wanted.items() if isinstance(adds, bool)}
    common: dict[str, Any] = {
        "special_ids": special_ids,
        "stop_ids": stop_ids,
        "adds": {**stated, **configured},
        "states_adds": "bos" in stated,
        "templates": special.chat_templates(checkpoint, settings),
        "extra_stops": {},
    }
    if model.get("byte_fallback"):
        return _sentencepiece(parsed, tokens, types, common)
    return _byte_level(parsed, settings, tokens, types, common)


def _tokens(
    title: str, vocab: Mapping[str, int], added: Sequence[Mapping[str, Any]], rows: int
) -> tuple[list[str], list[int]]:
    """Text and type of every row of the embedding, [PADn] where the tokenizer has no token."""
    by_id: dict[int, str] = {}
    for text, number in vocab.items():
        if by_id.setdefault(number, text) != text:
            raise BadCheckpoint(f"{title}: tokenizer.json gives the id {number} to {by_id[number]!r} and to {text!r}.")
    kinds: dict[int, int] = {}
    for token in added:
        number, text = int(token["id"]), str(token["content"])
        by_id[number] = text
        kinds[number] = CONTROL if token.get("special") or _LOOKS_SPECIAL.fullmatch(text) else USER_DEFINED
    highest = max(by_id, default=-1)
    if not by_id or highest >= rows or min(by_id) < 0:
        raise BadCheckpoint(
            f"{title}: tokenizer.json has the token id {highest}, but the embedding has {rows} rows.",
            hint="Tokens were added without resizing the embedding, or the tokenizer belongs to another checkpoint.",
        )
    tokens = [by_id.get(number, f"[PAD{number}]") for number in range(rows)]
    types = [kinds.get(number, NORMAL if number in by_id else UNUSED) for number in range(rows)]
    return tokens, types


def _check_texts(tokens: Sequence[str]) -> None:
    """Refuse texts that llama.cpp cannot tell apart: it cuts at a NUL, and ends the process over two equal ones.

    Raises:
        UnsupportedModel: two tokens have one text, or a text holds a NUL.
    """
    first: dict[str, int] = {}
    for number, text in enumerate(tokens):
        if "\0" in text:
            raise UnsupportedModel(f"tokenizer.json: the token {text!r} (id {number}) holds a NUL.")
        if first.setdefault(text, number) != number:
            raise UnsupportedModel(f"tokenizer.json: the tokens {first[text]} and {number} are both {text!r}.")


def _byte_level(
    parsed: Mapping[str, Any], settings: Mapping[str, Any], tokens: list[str], types: list[int], common: dict[str, Any]
) -> Vocabulary:
    model = parsed["model"]
    nfc = _is_nfc(parsed.get("normalizer"))
    if not nfc and parsed.get("normalizer"):
        raise UnsupportedModel(
            f"tokenizer.json: the normalizer {parsed['normalizer']} is not known for byte-level BPE."
        )
    _check_texts(tokens)
    merges = tuple(_merge(merge) for merge in model.get("merges") or ())
    if not merges:
        raise UnsupportedModel("tokenizer.json: a BPE without merges is not converted.")
    prefix = settings.get("add_prefix_space")
    return Vocabulary(
        model="gpt2",
        candidates=tuple(
            pretokenizers.candidates(
                pretokenizers.splits(parsed.get("pre_tokenizer")), bool(model.get("ignore_merges"))
            )
        ),
        tokens=tuple(tokens),
        types=tuple(types),
        scores=(),
        merges=merges,
        add_space_prefix=prefix if isinstance(prefix, bool) else None,
        normalizes_nfc=nfc,
        **common,
    )


def _is_nfc(normalizer: Mapping[str, Any] | None) -> bool:
    if normalizer and normalizer.get("type") == "Sequence":
        parts = normalizer.get("normalizers") or []
        return len(parts) == 1 and _is_nfc(parts[0])
    return bool(normalizer) and normalizer is not None and normalizer.get("type") == "NFC"


def _merge(merge: str | Sequence[str]) -> str:
    """A merge as GGUF has it: two pieces and a space; a space inside a piece is written as byte-level BPE writes it."""
    return merge if isinstance(merge, str) else " ".join(part.replace(" ", "Ġ") for part in merge)


def _sentencepiece(
    parsed: Mapping[str, Any], tokens: list[str], types: list[int], common: dict[str, Any]
) -> Vocabulary:
    model = parsed["model"]
    types = [
        BYTE if kind == NORMAL and _BYTE_TOKEN.fullmatch(text) else kind
        for text, kind in zip(tokens, types, strict=True)
    ]
    tokens = [
        text.replace(_METASPACE, " ") if kind == USER_DEFINED else text
        for text, kind in zip(tokens, types, strict=True)
    ]
    _check_texts(tokens)
    missing = sorted({f"<0x{byte:02X}>" for byte in range(256)}.difference(tokens))
    if missing:
        # llama.cpp ends the process over a byte that it cannot spell.
        raise UnsupportedModel(f"tokenizer.json: {len(missing)} of the 256 byte tokens are missing: {missing[0]} …")
    return Vocabulary(
        model="llama",
        candidates=("default",),
        tokens=tuple(tokens),
        types=tuple(types),
        scores=tuple(_scores(tokens, types, model.get("merges") or ())),
        merges=(),
        add_space_prefix=_adds_space(parsed),
        **common,
    )


def _scores(tokens: Sequence[str], types: Sequence[int], merges: Sequence[str | Sequence[str]]) -> list[float]:
    """Scores that make llama.cpp merge in the order of the merges: it takes the best score first.

    tokenizer.json holds no scores. A token's is minus the rank of the first merge that makes it; what no merge makes
    comes last.
    """
    ranks: dict[str, int] = {}
    for merge in merges:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        ranks.setdefault(left + right, len(ranks))
    rest = len(ranks)
    scores = []
    for text, kind in zip(tokens, types, strict=True):
        if kind == NORMAL and text not in ranks:
            scores.append(-float(rest))
            rest += 1
        else:
            scores.append(-float(ranks[text]) if kind == NORMAL else 0.0)
    return scores


def _adds_space(parsed: Mapping[str, Any]) -> bool:
    """Whether a text gets a space in front.

    Raises:
        UnsupportedModel: spaces are treated in a way that llama.cpp's SentencePiece tokenizer is not.
    """
    normalizer, pre = parsed.get("normalizer"), parsed.get("pre_tokenizer")
    space = {"type": "Replace", "pattern": {"String": " "}, "content": _METASPACE}
    steps = normalizer.get("normalizers", [normalizer]) if normalizer else []
    if pre is None and steps == [{"type": "Prepend", "prepend": _METASPACE}, space]:
        return True
    if pre is None and steps == [space]:
        return False
    if not steps and pre and pre.get("type") == "Metaspace" and pre.get("replacement") == _METASPACE:
        return prepends_space(pre)
    raise UnsupportedModel(
        f"tokenizer.json: the normalizer {normalizer} with the pre-tokenizer {pre} "
        "is not known for BPE with byte fallback."
    )


def prepends_space(metaspace: Mapping[str, Any]) -> bool:
    """Whether a Metaspace step puts a space in front, in its present and its older spelling."""
    return bool(
        metaspace.get("prepend_scheme", "always" if metaspace.get("add_prefix_space", True) else "never") != "never"
    )
