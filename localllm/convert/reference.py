"""The checkpoint's own tokenizer, as the `tokenizers` library reads it: what llama.cpp is compared with."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localllm.convert.vocabulary.base import steps
from localllm.convert.vocabulary.sentencepiece import prepends_space
from localllm.errors import BadCheckpoint, MissingPackage, UnsupportedModel
from localllm.native import lib


@dataclass(frozen=True)
class Text:
    """A tokenizer.json that takes an eighth of the memory of one that was read. `around` is all of it but its model."""

    json: str
    around: Mapping[str, Any]


class Reference:
    """A tokenizer of the `tokenizers` library, made from a `tokenizer.json` that was read.

    The `document` is kept as text: whoever has little memory gives it as such, and lets go of what was read before the
    library takes twice as much for a moment. `notes` say in words what was switched off in it.

    Raises:
        BadCheckpoint: the library does not read it.
        UnsupportedModel: as `as_text`.
        MissingPackage: the package `tokenizers` is not installed.
    """

    def __init__(self, document: Mapping[str, Any] | Text, notes: tuple[str, ...] = ()) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingPackage(
                "convert needs the package tokenizers.", hint="pip install 'localllm[convert]'"
            ) from error
        self._text, self.notes = document if isinstance(document, Text) else as_text(document), notes
        try:
            self._tokenizer: Any = Tokenizer.from_str(self._text.json)
        except BaseException as error:  # nothing narrower: a PanicException is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise BadCheckpoint(f"The tokenizer is not one that the tokenizers library reads: {error}.") from error
        lib.give_memory_back()

    @property
    def document(self) -> dict[str, Any]:
        """The tokenizer.json, read anew."""
        found: dict[str, Any] = json.loads(self._text.json)
        return found

    def encode(self, texts: Sequence[str], *, add_special: bool) -> list[list[int]]:
        """Token ids of texts, special tokens in them read."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=add_special)
        return [found.ids for found in encoded]

    def decode(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token."""
        found: list[str] = self._tokenizer.decode_batch([[token] for token in tokens], skip_special_tokens=False)
        return found

    def lenient(self) -> Reference | None:
        """The same without what llama.cpp cannot do around special tokens, or None if there is nothing of it.

        Everything else is still compared to the last id.
        """
        around = copy.deepcopy(dict(self._text.around))
        notes = tuple(_switch_off(around))
        return Reference(as_text({**self.document, **around}), (*self.notes, *notes)) if notes else None


def as_text(document: Mapping[str, Any]) -> Text:
    """A tokenizer.json as the library reads it.

    Raises:
        UnsupportedModel: it is a BPE that marks pieces inside of words.
    """
    model = document.get("model")
    if isinstance(model, dict) and "merges" in model and model.get("continuing_subword_prefix"):
        # llama.cpp has no such BPE, and the library ends the process where a merge lacks the prefix.
        prefix = model["continuing_subword_prefix"]
        raise UnsupportedModel(f"llama.cpp has no BPE whose pieces begin with {prefix!r} inside of words.")
    # Settings for batches in training, no part of how a text is read.
    around = {name: part for name, part in document.items() if name != "model"}
    if isinstance(model, dict):
        document = {**document, "model": {**model, **_joined(model.get("merges"))}}
    return Text(json.dumps({**document, "truncation": None, "padding": None}), around)


def _joined(merges: Any) -> dict[str, list[str]]:
    """The merges as texts, as files had them before, where they can be: the library then takes half the memory."""
    if not isinstance(merges, list) or not all(isinstance(merge, list) and len(merge) == 2 for merge in merges):
        return {}  # they are texts already, or damaged
    try:
        joined = [" ".join(merge) for merge in merges]
    except TypeError:
        return {}
    # A text has one space, and one that looks like the first line of a merges.txt is passed over.
    plain = all(merge.count(" ") == 1 and not merge.startswith("#version") for merge in joined)
    return {"merges": joined} if plain else {}


def _switch_off(document: dict[str, Any]) -> Iterator[str]:
    pre = steps(document.get("pre_tokenizer"), "pretokenizers")
    if [step.get("type") for step in pre] == ["Metaspace"] and prepends_space(pre[0]):
        mark = pre[0]["replacement"]
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": mark}
        before = steps(document.get("normalizer"), "normalizers")
        document["normalizer"] = {
            "type": "Sequence",
            "normalizers": [*before, {"type": "Prepend", "prepend": mark}, replace],
        }
        document["pre_tokenizer"] = {**pre[0], "prepend_scheme": "never"} if pre[0].get("split", True) else None
        yield (
            "llama.cpp puts a space before every text, also where the checkpoint's tokenizer puts none: "
            "before a space, or after a special token"
        )
    added = document.get("added_tokens") or ()
    stripping = [token for token in added if token.get("lstrip") or token.get("rstrip")]
    for token in stripping:
        token["lstrip"] = token["rstrip"] = False
    if stripping:
        yield f"llama.cpp keeps the spaces around {_names(stripping)}"
    whole = [token for token in added if token.get("single_word")]
    for token in whole:
        token["single_word"] = False
    if whole:
        yield f"llama.cpp also finds {_names(whole)} inside of words"


def _names(tokens: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(token["content"]) for token in tokens[:5]) + (" …" if len(tokens) > 5 else "")
