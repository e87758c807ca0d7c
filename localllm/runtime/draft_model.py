"""A small model that guesses what a larger one with the same vocabulary will say."""

from __future__ import annotations

from array import array
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from localllm.errors import UnsupportedModel
from localllm.gguf_file import Array, Header, read_header, read_parts
from localllm.native import handles, lib
from localllm.native.batch import Batch
from localllm.native.candidates import logits_at
from localllm.native.kv import KV
from localllm.native.vocab import Vocab
from localllm.runtime.context import open_context
from localllm.runtime.draft import Drafter
from localllm.runtime.loading import open_weights
from localllm.runtime.options import Options
from localllm.runtime.plan import check_fits, plan_quickly
from localllm.runtime.tokens import shared
from localllm.runtime.types import Plan, mib

CHUNK = 256
"""Tokens of a prompt that are read in a step of the larger model: others wait for it, and no cancel ends it."""

SURE = 0.5
"""The probability from which on a guess is worth a place in the batch of the larger model."""

_VOCABULARY = ("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.bos_token_id")


def _check_vocabulary(draft: Header, model: Header) -> None:
    """See that both mean the same by their tokens.

    Raises:
        UnsupportedModel: they do not.
    """
    if _vocabulary(draft) != _vocabulary(model):
        raise UnsupportedModel(
            f"{draft.path.name} cannot draft for {model.path.name}: they have other vocabularies.",
            hint="Choose a smaller model of the same family; --draft ngram needs none.",
        )


def _vocabulary(header: Header) -> list[object]:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    return [*(header.metadata.get(key) for key in _VOCABULARY), list(tokens) if isinstance(tokens, Array) else None]


def open_draft(plan: Plan) -> tuple[DraftModel, Plan]:
    """The model that drafts for the one that was loaded by `plan`, and the plan of both.

    Its context is as long as that one's.

    Raises:
        UnsupportedModel: it has another vocabulary, or cannot go back.
        DoesNotFit, ModelNotFound, BadModelFile: as for any model.
    """
    options = plan.options
    headers = read_parts(Path(options.draft))
    _check_vocabulary(headers[0], read_header(plan.path))
    own = Options(
        n_ctx=options.n_ctx,
        threads=options.threads,
        n_ubatch=min(options.n_ubatch, CHUNK),
        flash_attention=options.flash_attention,
        sequences=options.sequences,
    )
    alone = plan_quickly(headers[0], own)[1]()
    both = _together(plan, alone)
    check_fits(both)
    with ExitStack() as made:
        model, _ = open_weights(alone, [header.path for header in headers], None)
        made.callback(model.close)
        context = open_context(model, alone.options)
        made.callback(context.close)
        drafts = DraftModel(model, context, options.sequences)
        made.pop_all()
    return drafts, both


def _together(plan: Plan, draft: Plan) -> Plan:
    """A plan with what another model takes on the same devices."""
    parts = {part.name: part for part in draft.devices}
    devices = tuple(
        replace(part, weights=part.weights + more.weights, kv=part.kv + more.kv, compute=part.compute + more.compute)
        if (more := parts.get(part.name)) is not None
        else part
        for part in plan.devices
    )
    note = f"{draft.path.name}, which drafts, takes {mib(draft.total)} of that."
    estimate = plan.estimate or draft.estimate
    return replace(plan, devices=devices, exact=not estimate, estimate=estimate, notes=(*plan.notes, note))


class _Slot:
    """A sequence of the context, and what it holds."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tokens = array("i")
        self.taken = False


class DraftModel:
    """A loaded model that drafts for as many replies as its context has `sequences`.

    Raises:
        UnsupportedModel: it remembers in a way that cannot go back, or has another vocabulary.
    """

    def __init__(self, model: handles.ModelHandle, context: handles.ContextHandle, sequences: int) -> None:
        self._model, self._context = model, context
        self._kv = KV(model, context)
        if self._kv.whole:
            raise UnsupportedModel(
                f"{model.path.name} cannot draft: it cannot take back what it guessed.",
                hint="Choose a model without a sliding window that is not recurrent; --draft ngram needs none.",
            )
        self._n_vocab = Vocab(model).size
        self._chunk = min(CHUNK, context.n_batch)
        self._batch = Batch(self._chunk)
        self._slots = [_Slot(number) for number in range(sequences)]

    def close(self) -> None:
        """Free it. No drafter may be used after that."""
        self._context.close()
        self._model.close()

    def drafter(self) -> Drafter:
        """Guesses for one reply."""
        return _Guesses(self)

    def take(self, tokens: array[int]) -> _Slot | None:
        """The free slot that holds most of the start of `tokens`."""
        free = [slot for slot in self._slots if not slot.taken]
        slot = max(free, key=lambda slot: shared(slot.tokens, tokens), default=None)
        if slot is not None:
            slot.taken = True
        return slot

    def guess(self, slot: _Slot, tokens: array[int], most: int) -> array[int]:
        """The likeliest tokens after `tokens`, for as long as they are sure; none until what is before them is read."""
        keep = min(shared(slot.tokens, tokens), len(tokens) - 1)
        if keep < len(slot.tokens):
            if keep <= 0 or not self._kv.cut(slot.number, keep):
                self._kv.clear(slot.number)
                keep = 0
            del slot.tokens[keep:]
        guesses = array("i")
        left = tokens[keep : keep + self._chunk]
        caught_up = keep + len(left) == len(tokens)
        while len(guesses) < most and self._read(slot, left) and caught_up:
            token = self._likeliest()
            if token is None:
                break
            guesses.append(token)
            left = array("i", (token,))
        return guesses

    def _read(self, slot: _Slot, tokens: array[int]) -> bool:
        """Evaluate the next tokens of one sequence, and the logits of the last. False if there is no room."""
        self._batch.clear()
        self._batch.add(slot.number, len(slot.tokens), tokens, outputs=1)
        if len(slot.tokens) + len(tokens) > self._context.n_ctx or not self._decoded():
            self._kv.clear(slot.number)
            del slot.tokens[:]
            return False
        slot.tokens.extend(tokens)
        return True

    def _decoded(self) -> bool:
        """Run the batch; others give way where there is no room."""
        while (code := lib.llama().llama_decode(self._context.pointer, self._batch.native)) == 1:
            idle = next((slot for slot in self._slots if not slot.taken and slot.tokens), None)
            if idle is None:
                return False
            self._kv.clear(idle.number)
            del idle.tokens[:]
        return bool(code == 0)

    def _likeliest(self) -> int | None:
        """The likeliest token after the last one, if it is likely enough."""
        logits = logits_at(self._context.pointer, -1, self._n_vocab)
        token = int(logits.argmax())
        probability = 1 / float(np.exp(logits - logits[token]).sum())
        return token if probability >= SURE else None


class _Guesses(Drafter):
    def __init__(self, model: DraftModel) -> None:
        self._model = model
        self._slot: _Slot | None = None
        self._length = 4

    def propose(self, tokens: array[int], most: int) -> array[int]:
        """What the small model says."""
        self._slot = self._slot or self._model.take(tokens)
        if self._slot is None:
            return array("i")
        return self._model.guess(self._slot, tokens, min(most, self._length))

    def checked(self, proposed: int, accepted: int) -> None:
        """Longer guesses after right ones, shorter after wrong ones."""
        self._length = min(self._length + 2, 16) if accepted == proposed else max(1, accepted + 1)

    def close(self) -> None:
        """Its place is free; what it holds may be of use to the next reply."""
        if self._slot is not None:
            self._slot.taken = False
