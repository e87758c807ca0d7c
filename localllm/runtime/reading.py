"""What a model makes of texts it only reads: embeddings, ranks, and the logits of every token.

Each has a context of its own, made when it is first asked for and freed with the model, beside what the plan counts.
Knows no conversations and no sampling.
"""

from __future__ import annotations

import ctypes
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from localllm.errors import ContextFull, EngineDied, UnsupportedModel
from localllm.native import handles, lib, log
from localllm.native.batch import Batch
from localllm.native.candidates import logits_at
from localllm.native.vocab import Vocab

Pooling = Literal["mean", "cls", "last"]
"""How the vectors of the tokens become that of a text: their mean, or that of the first or of the last token."""

# `enum llama_pooling_type` of llama.h.
_POOLING = {"mean": 1, "cls": 2, "last": 3}
_NONE, RANK, _AS_THE_FILE_SAYS = 0, 4, -1

SEQUENCES = 64
"""Texts that are read in one batch, at most."""

BATCH = 512
"""Tokens that are read in one batch, if no text is longer."""

Open = Callable[..., handles.ContextHandle]


class Reader:
    """Reads texts with one model. `open_context` makes a context of it with the settings given by name.

    All methods may be called from any thread; they take turns.
    """

    def __init__(self, model: handles.ModelHandle, vocab: Vocab, open_context: Open, n_ctx: int) -> None:
        self._model, self._vocab, self._open, self._n_ctx = model, vocab, open_context, n_ctx
        self._turn = threading.Lock()
        self._kept: tuple[int, handles.ContextHandle] | None = None  # with its pooling
        self._closed = False

    def close(self) -> None:
        """Stop what is being read, after the batch in flight, and free the context."""
        self._closed = True
        with self._turn:
            self._drop()

    def embed(
        self, texts: Sequence[str], *, normalize: bool = True, truncate: bool = False, pooling: Pooling | None = None
    ) -> NDArray[np.float32]:
        """See `Model.embed`."""
        if pooling is not None and pooling not in get_args(Pooling):
            raise ValueError(f"{pooling!r} is no pooling: {', '.join(get_args(Pooling))}")
        kind = _AS_THE_FILE_SAYS if pooling is None else _POOLING[pooling]
        with self._reading():
            tokens = [self._fitting(text, truncate=truncate) for text in _texts(texts)]
            vectors = self._pooled(tokens, kind, lib.llama().llama_model_n_embd_out(self._model.pointer))
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        return vectors

    def rerank(self, query: str, documents: Sequence[str]) -> NDArray[np.float32]:
        """See `Model.rerank`."""
        with self._reading():
            tokens = [self._checked(self._pair(query, document)) for document in _texts(documents)]
            return self._pooled(tokens, RANK, 1)[:, 0]

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """See `Model.logits`."""
        given = array("i", self._checked(list(tokens)))
        outside = next((token for token in given if not 0 <= token < self._vocab.size), None)
        if outside is not None:
            raise ValueError(f"the token {outside} is not in the vocabulary of {self._vocab.size:,} tokens")
        size = min(BATCH, len(given))
        with self._reading():
            found = np.empty((len(given), self._vocab.size), np.float32)
            self._drop()
            context = self._open(n_ctx=len(given), n_batch=size, n_ubatch=size, sequences=1, guesses=size - 1)
            batch = Batch(size)
            try:
                for start in range(0, len(given), size):
                    part = given[start : start + size]
                    batch.clear()
                    batch.add(0, start, part, outputs=len(part))
                    self._run(context, batch)
                    for index in range(len(part)):
                        found[start + index] = logits_at(context.pointer, index, self._vocab.size)
            finally:
                context.close()
        return found

    def _fitting(self, text: str, *, truncate: bool) -> list[int]:
        tokens = self._vocab.tokenize(text, add_special=True, parse_special=True)
        if truncate and len(tokens) > self._n_ctx:
            # What the model wants at the end of a text stays there.
            end = len(tokens) - 1 if tokens[-1] in (self._vocab.eos, self._vocab.sep) else len(tokens)
            tokens = tokens[: self._n_ctx - (len(tokens) - end)] + tokens[end:]
        return self._checked(tokens)

    def _checked(self, tokens: list[int]) -> list[int]:
        if not tokens:
            raise ValueError("there is nothing to read: the text has no tokens")
        if len(tokens) > self._n_ctx:
            raise ContextFull(
                f"A text has {len(tokens):,} tokens, and the context holds {self._n_ctx:,}.",
                hint="Shorten the text or cut it into parts; embed(…, truncate=True) leaves out the rest.",
            )
        return tokens

    def _pair(self, query: str, document: str) -> list[int]:
        """A query and a document as a reranker reads them. Source: `format_prompt_rerank` of llama.cpp's server."""
        vocab = self._vocab
        template = self._model.chat_template("rerank")
        if template is not None:
            prompt = template.replace("{query}", query).replace("{document}", document)
            return vocab.tokenize(prompt, add_special=False, parse_special=True)
        end = [vocab.eos if vocab.eos >= 0 else vocab.sep] if vocab.adds_eos else []
        plain = [vocab.tokenize(text, add_special=False, parse_special=False) for text in (query, document)]
        start = [vocab.bos] if vocab.adds_bos else []
        return [*start, *plain[0], *end, *([vocab.sep] if vocab.adds_sep else []), *plain[1], *end]

    def _pooled(self, texts: list[list[int]], pooling: int, width: int) -> NDArray[np.float32]:
        """One vector for each text: float32 [n, width], in their order."""
        found = np.empty((len(texts), width), np.float32)
        if not texts:
            return found
        context = self._context(max(BATCH, *map(len, texts)), pooling)
        batch = Batch(context.n_batch)
        for group in _groups(texts, context.n_batch):
            batch.clear()
            if context.memory is not None:
                lib.llama().llama_memory_clear(context.memory, False)
            for sequence, index in enumerate(group):
                batch.add(sequence, 0, array("i", texts[index]), outputs=len(texts[index]))
            self._run(context, batch)
            for sequence, index in enumerate(group):
                found[index] = _vector(context, sequence, width)
        return found

    def _context(self, tokens: int, pooling: int) -> handles.ContextHandle:
        """A context that reads that many tokens at once and pools as asked."""
        if self._kept is not None and (self._kept[0] != pooling or self._kept[1].n_batch < tokens):
            self._drop()
        if self._kept is None:
            context = self._open(
                n_ctx=tokens,
                n_batch=tokens,
                n_ubatch=tokens,
                sequences=SEQUENCES,
                guesses=tokens - SEQUENCES,  # a vector is made of the outputs of all tokens
                pooling=pooling,
            )
            if lib.llama().llama_pooling_type(context.pointer) in (_NONE, RANK) and pooling != RANK:
                context.close()
                raise UnsupportedModel(
                    f"{self._model.path.name} does not say how the vectors of its tokens become one of a text.",
                    hint='It was made for something else. embed(…, pooling="mean") or "last" takes what you say.',
                )
            self._kept = pooling, context
        return self._kept[1]

    def _run(self, context: handles.ContextHandle, batch: Batch) -> None:
        self._check_open()
        api = lib.llama()
        lib.check_not_forked()
        log.forget_problems()
        if context.memory is None:
            code = api.llama_encode(context.pointer, batch.native)
        else:
            code = api.llama_decode(context.pointer, batch.native)
        if code:
            reason = "; ".join(log.recent_problems()).strip() or f"code {code}"
            raise EngineDied(f"llama.cpp could not read the text: {reason}.", hint="Try again, or reload the model.")

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept[1].close()
            self._kept = None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One at a time, and only while the model is open."""
        with self._turn:
            self._check_open()
            yield

    def _check_open(self) -> None:
        if self._closed:
            raise EngineDied("The model is closed.", hint="Load it again.")


def _texts(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):
        raise TypeError("a list of texts is wanted, not one text")
    return texts


def _groups(texts: list[list[int]], room: int) -> Iterator[list[int]]:
    """Indices of texts that are read together; those of a like length, so that none waits for a long one."""
    group: list[int] = []
    used = 0
    for index in sorted(range(len(texts)), key=lambda index: len(texts[index])):
        if group and (used + len(texts[index]) > room or len(group) == SEQUENCES):
            yield group
            group, used = [], 0
        group.append(index)
        used += len(texts[index])
    if group:
        yield group


def _vector(context: handles.ContextHandle, sequence: int, width: int) -> Any:
    pointer = lib.llama().llama_get_embeddings_seq(context.pointer, sequence)
    return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (width,))
