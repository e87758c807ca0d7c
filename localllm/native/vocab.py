"""Text to token ids and back, as llama.cpp does it for one model."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localllm.errors import BadText
from localllm.native import handles, lib

# enum llama_vocab_type of llama.h
SPM = 1


def encoded(text: str, what: str = "The text") -> bytes:
    """The UTF-8 of `text`, which messages call `what`.

    Raises:
        BadText: `text` holds half of a surrogate pair, as Python makes of bytes that are no valid UTF-8.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        there = f"the byte 0x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"half of a pair, U+{code:04X}"
        raise BadText(
            f"{what} is no valid UTF-8: at character {error.start + 1:,} there is {there}.",
            hint="Was it read in another encoding? `iconv -f latin1 -t utf-8` turns one such into UTF-8.",
        ) from None


class Vocab:
    """The vocabulary of a loaded model. Reading it is safe from several threads.

    Control tokens whose names are in `shown` have their names as text, like any other token.
    """

    def __init__(self, model: handles.ModelHandle, shown: Collection[str] = ()) -> None:
        self._shown = shown
        api = self._api = lib.llama()
        self.native: Any = model.vocab
        self.size: int = api.llama_vocab_n_tokens(model.vocab)
        self.kind: int = api.llama_vocab_type(model.vocab)
        self.bos: int = api.llama_vocab_bos(model.vocab)
        self.eos: int = api.llama_vocab_eos(model.vocab)
        self.sep: int = api.llama_vocab_sep(model.vocab)
        self.adds_eos: bool = api.llama_vocab_get_add_eos(model.vocab)
        self.adds_sep: bool = api.llama_vocab_get_add_sep(model.vocab)
        self.adds_bos: bool = api.llama_vocab_get_add_bos(model.vocab)
        self._pieces: dict[int, bytes] = {}
        self._written: dict[int, bytes] = {}

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of `text`. `add_special` adds what the model wants around it; `parse_special` reads `<|…|>`.

        Raises:
            BadText: `text` holds half of a surrogate pair, as Python makes of bytes that are no valid UTF-8.
        """
        data = encoded(text)
        room = len(data) + 2
        while True:
            ids = (ctypes.c_int32 * room)()
            count = self._api.llama_tokenize(self.native, data, len(data), ids, room, add_special, parse_special)
            if count >= 0:
                return ids[:count]
            room = -count

    def tokenize_prompt(self, text: str) -> list[int]:
        """Token ids of a whole prompt, special tokens read, its first special token included once.

        llama.cpp adds that one itself: a template or person that writes it too would double it.
        """
        first = self.text(self.bos) if self.adds_bos else ""
        return self.tokenize(text.removeprefix(first), add_special=True, parse_special=True)

    def tokenize_tail(self, text: str) -> list[int]:
        """Token ids of text that follows other text, special tokens read.

        SentencePiece puts a space before the first piece. A newline, which merges with nothing, takes that space here
        and is cut off again.
        """
        if self.kind != SPM or not text:
            return self.tokenize(text, add_special=False, parse_special=True)
        anchor = self.tokenize("\n", add_special=False, parse_special=True)
        ids = self.tokenize("\n" + text, add_special=False, parse_special=True)
        if ids[: len(anchor)] == anchor:
            return ids[len(anchor) :]
        return self.tokenize(text, add_special=False, parse_special=True)

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; empty for a control token that is not shown. May end inside a character."""
        known = self._pieces.get(token)
        if known is None:
            known = self._read_piece(token, special=False)
            if not known and self.text(token) in self._shown and not self.ends_generation(token):
                known = self.written(token)
            self._pieces[token] = known
        return known

    def written(self, token: int) -> bytes:
        """The bytes by which a token stands in a prompt: those of `piece`, or the name of a control token."""
        known = self._written.get(token)
        if known is None:
            known = self._written[token] = self._read_piece(token, special=True)
        return known

    def text(self, token: int) -> str:
        """The text of a token as it stands in the vocabulary: `<s>`, `<|im_end|>`. Empty for no token (-1)."""
        return self._read_piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def template_tokens(self) -> dict[str, str]:
        """The texts of the special tokens that chat templates print, by the names they use."""
        return {"bos_token": self.text(self.bos), "eos_token": self.text(self.eos)}

    def fill_in_middle(self) -> dict[str, int]:
        """The tokens around a gap in a text, before it, behind it and at it, by their names in GGUF; -1 for none."""
        api = self._api
        return {
            "fim_pre": api.llama_vocab_fim_pre(self.native),
            "fim_suf": api.llama_vocab_fim_suf(self.native),
            "fim_mid": api.llama_vocab_fim_mid(self.native),
        }

    def suppressed(self) -> list[int]:
        """Tokens that the model file says must never be generated (`tokenizer.ggml.suppress_tokens`)."""
        count = ctypes.c_int32()
        tokens = self._api.llama_vocab_get_suppress_tokens(self.native, ctypes.byref(count))
        return tokens[: count.value] if count.value else []

    @functools.cached_property
    def control(self) -> list[int]:
        """Tokens that steer and have no text, those left out that end the model's turn."""
        steers, ends = self._api.llama_vocab_is_control, self.ends_generation
        return [token for token in range(self.size) if steers(self.native, token) and not ends(token)]

    def ends_generation(self, token: int) -> bool:
        """Whether the model ends its turn with this token."""
        return bool(self._api.llama_vocab_is_eog(self.native, token))

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._api.llama_token_to_piece(self.native, token, buffer, size, 0, special)
            if length >= 0:
                return buffer.raw[:length]
            size = -length


@contextmanager
def open_vocab(path: Path) -> Iterator[Vocab]:
    """The vocabulary of a GGUF without its weights.

    Raises:
        BadModelFile, UnsupportedModel: as `handles.open_model`.
    """
    with handles.open_model(path, vocab_only=True) as model:
        yield Vocab(model)
