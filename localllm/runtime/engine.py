"""One context of llama.cpp and the tokens in its KV cache: evaluates what is new of a prompt, then generates.

Knows tokens only: no text, no templates, no chats. One thread at a time may use an engine; `stop()` alone is safe from
any thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from itertools import takewhile

from localllm.errors import ContextFull, EngineDied
from localllm.native import handles, lib
from localllm.native.vocab import Vocab
from localllm.runtime.sampling import Sampler
from localllm.runtime.types import Progress, Stats, StopReason

# Return codes of llama_decode, from llama.h.
_DONE, _NO_SLOT, _ABORTED = 0, 1, 2


class Engine:
    """Generates tokens with one context. `cached` are the tokens in the KV cache, in order."""

    def __init__(self, model: handles.ModelHandle, vocab: Vocab, context: handles.ContextHandle, chunk: int) -> None:
        api = self._api = lib.llama()
        self._vocab, self._context = vocab, context
        self._chunk = chunk = min(chunk, context.n_batch)  # llama.cpp ends the process over a larger batch
        self._window: int = api.llama_model_n_swa(model.pointer)
        self._batch = api.llama_batch_init(chunk, 0, 1)
        self.cached: list[int] = []
        self._settled = True  # False while `cached` may not be what the KV cache holds
        self.on_progress: Callable[[Progress], None] | None = None
        self.stats: Stats | None = None

    def close(self) -> None:
        """Free the batch and the context. Stop a running `generate` before."""
        if self._batch is not None:
            self._api.llama_batch_free(self._batch)
            self._batch = None
            self._context.close()
            self.cached.clear()

    def stop(self) -> None:
        """Make the running `generate` end, also in the middle of a decode on the CPU."""
        self._context.stop_flag.value = b"x"

    def ready(self) -> None:
        """Forget an earlier `stop()`; the next `generate` runs."""
        self._context.stop_flag.value = b""

    @property
    def _stopped(self) -> bool:
        return bool(self._context.stop_flag.value)

    def generate(self, prompt: Sequence[int], sampler: Sampler, max_tokens: int = 0) -> Generator[int, None, None]:
        """Yield tokens after `prompt` until the model ends its turn, `max_tokens` (0: no limit), `stop()` or the
        context's end. `on_progress` hears how far the prompt is;
        `stats` is set when the iteration ends, however it does.

        Raises:
            ContextFull: the prompt alone fills the context.
            EngineDied: llama.cpp failed.
            ValueError: the prompt is empty.
        """
        n_ctx = self._context.n_ctx
        if not prompt:
            raise ValueError("the prompt has no tokens")
        if len(prompt) >= n_ctx:
            raise ContextFull(
                f"The prompt has {len(prompt):,} tokens and the context holds {n_ctx:,}: "
                f"{len(prompt) - n_ctx + 1:,} too many (one must be left for the answer).",
                hint="Make the context larger with --ctx, start a new chat, or shorten the prompt.",
            )
        started = time.perf_counter()
        reused = self._keep_prefix(prompt)
        self.stats, count, picked = None, 0, 0
        reason: StopReason = "cancelled"
        first = last = 0.0
        try:
            if not self._evaluate(prompt, reused):
                return
            while True:
                token = self._api.llama_sampler_sample(sampler.pointer, self._context.pointer, -1)
                last = time.perf_counter()
                first, picked = first or last, picked + 1
                if self._vocab.ends_generation(token):
                    reason = "end"
                    return
                count += 1
                yield token
                if count == max_tokens:
                    reason = "length"
                    return
                if len(self.cached) == n_ctx:
                    reason = "context"
                    return
                if self._stopped or not self._decode([token]):
                    return
        finally:
            ttft = (first or time.perf_counter()) - started
            self.stats = Stats(
                prompt_tokens=len(prompt),
                cached_tokens=reused,
                completion_tokens=count,
                ttft_s=round(ttft, 4),
                prefill_tps=round((len(prompt) - reused) / ttft, 2) if picked else 0.0,
                decode_tps=round((picked - 1) / (last - first), 2) if picked > 1 else 0.0,
                stop_reason=reason,
            )

    def _keep_prefix(self, prompt: Sequence[int]) -> int:
        """Cut the KV cache back to what it shares with `prompt`; returns how many tokens that is.

        At least the last token of the prompt is left out: a cached one has no logits to sample from.
        """
        if not self._settled:
            self.forget()
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.cached, prompt, strict=False)))
        keep = min(shared, len(prompt) - 1)
        if keep < len(self.cached) and not self._cut(keep):
            self.forget()
            return 0
        return keep

    def forget(self) -> None:
        """Empty the KV cache."""
        self._settled = True
        self._api.llama_memory_clear(self._context.memory, False)
        self.cached.clear()

    def _cut(self, keep: int) -> bool:
        """Remove all cached tokens from position `keep` on. False if this memory cannot: the caller starts over.

        Recurrent models cannot go back at all. With a sliding window, old cells may be gone although `seq_rm` agrees.
        """
        if keep <= 0 or not self._api.llama_memory_seq_rm(self._context.memory, 0, keep, -1):
            return False
        if self._window:
            oldest = self._api.llama_memory_seq_pos_min(self._context.memory, 0)
            if oldest < 0 or oldest > max(0, keep - self._window):
                return False
        del self.cached[keep:]
        return True

    def _evaluate(self, prompt: Sequence[int], done: int) -> bool:
        """Decode `prompt` from position `done` on, in chunks. False if stopped."""
        reused = done
        self._report(Progress(done, len(prompt), reused))
        while done < len(prompt):
            part = prompt[done : done + self._chunk]
            if self._stopped or not self._decode(part):
                return False
            done += len(part)
            self._report(Progress(done, len(prompt), reused))
        return True

    def _report(self, progress: Progress) -> None:
        if self.on_progress is not None:
            self.on_progress(progress)

    def _decode(self, tokens: Sequence[int]) -> bool:
        """Put `tokens` behind what is cached, with logits for the last. False if stopped.

        Raises:
            EngineDied: llama.cpp failed; the cache is cleared, the next call starts over.
        """
        batch, at = self._batch, len(self.cached)
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index] = token
            batch.pos[index] = at + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = 0
        batch.logits[len(tokens) - 1] = 1
        lib.forget_problems()
        self._settled = False  # Ctrl-C may be raised here at any line
        code = self._api.llama_decode(self._context.pointer, batch)
        if code == _DONE:
            self.cached.extend(tokens)
            self._settled = True
            return True
        # Parts of the batch may be in the cache now: back to what is known.
        if self._cut(at):
            self._settled = True
        else:
            self.forget()
        if code == _ABORTED:
            return False
        if code == _NO_SLOT:
            raise ContextFull(
                f"The KV cache has no room for {len(tokens)} more tokens after {at:,}.", hint="Use a larger --ctx."
            )
        reason = "; ".join(lib.recent_problems()) or f"code {code}"
        raise EngineDied(f"llama.cpp could not evaluate the prompt: {reason}.", hint="Try again, or reload the model.")
