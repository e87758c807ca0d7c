"""A reply made in this process: tokens of the engine become text, piece by piece. Knows no templates."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace

from localllm.native.vocab import Vocab
from localllm.runtime.draft import Drafter
from localllm.runtime.engine import Engine
from localllm.runtime.prompt import Prompt, Source
from localllm.runtime.sampler import Chances, build
from localllm.runtime.sampling import Sampling
from localllm.runtime.stream import Stream
from localllm.runtime.template import TokenMemory
from localllm.runtime.text import Text
from localllm.runtime.types import Logprob, Progress, Stats, TokenLogprob


class LocalReply:
    """See `Reply`. `sampling` is what was used, the seed included; `logprobs` has the tokens of `text` if it asked so.

    `on_progress`, if set before the first piece, is called while the prompt is evaluated, by the thread that does it.
    """

    def __init__(
        self,
        engine: Engine,
        vocab: Vocab,
        memory: TokenMemory,
        source: Source,
        sampling: Sampling,
        max_tokens: int,
        drafter: Drafter,
        *,
        anew: bool = False,
    ) -> None:
        self.sampling = sampling
        self.text = ""
        self.logprobs: list[TokenLogprob] = []
        self.on_progress: Callable[[Progress], None] | None = None
        self._engine, self._vocab, self._memory = engine, vocab, memory
        self._source, self._max_tokens, self._drafter, self._anew = source, max_tokens, drafter, anew
        self._reading = threading.Lock()  # so that close() in one thread waits for __next__ in another
        self._stream: Stream | None = None
        self._prompt: Prompt | None = None
        self._pieces = Text(sampling.stop)
        self._untold: list[TokenLogprob] = []
        self._cancelled = self._ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        with self._reading:
            if self._ended:
                raise StopIteration
            try:
                piece = self._piece(self._stream or self._begin())
            except BaseException:
                self._end()
                raise
            if piece is None:
                self._tell("")
                self._end()
                raise StopIteration
            self.text += piece
            if self._untold:
                self._tell(piece)
            return piece

    def close(self) -> None:
        """End the iteration now and keep what was said."""
        self.cancel()
        with self._reading:
            self._end()

    def cancel(self) -> None:
        """Stop as soon as possible; safe from any thread, also before the first piece."""
        self._cancelled = True
        stream = self._stream
        if stream is not None:
            self._engine.cancel(stream)

    @property
    def stats(self) -> Stats | None:
        """What it cost; None until the iteration ended."""
        stream = self._stream
        at_its_end = stream is not None and (self._ended or not (stream.active or stream.ready))
        if stream is None or self._prompt is None or not at_its_end:
            return None
        return replace(
            stream.stats,
            dropped_messages=self._prompt.dropped_messages,
            dropped_tokens=len(self._prompt.whole) + len(stream.answer) - len(stream.tokens),
            rewritten_tokens=self._prompt.rewritten_tokens,
        )

    @property
    def pieces(self) -> int:
        """How many pieces of about a token each were said."""
        return self._stream.taken if self._stream else 0

    @property
    def progress(self) -> Progress | None:
        """How far the prompt is evaluated; None before that begins."""
        return self._stream.progress if self._stream else None

    def _begin(self) -> Stream:
        self._engine.check_open()
        sampler = build(self.sampling, self._vocab, self._engine.n_ctx)
        try:
            prompt = self._source.first()
            sampler.read(prompt.tokens)
            stream = self._engine.start(prompt.tokens, sampler, self._max_tokens, self._drafter, anew=self._anew)
        except BaseException:
            sampler.close()
            raise
        stream.on_progress = self.on_progress
        self._prompt, self._stream = prompt, stream
        if self._cancelled:
            self._engine.cancel(stream)
        return stream

    def _piece(self, stream: Stream) -> str | None:
        """The next text that is certain; None at the end."""
        while (token := self._next_token(stream)) is not None:
            data = self._vocab.piece(token)
            if self.sampling.logprobs is not None:
                self._untold.append(self._logprob(token, stream.sampler.chances[stream.taken - 1]))
            piece = self._pieces.feed(data)
            if self._pieces.ended:
                self._engine.stop(stream)
            if piece:
                return piece
        return self._pieces.rest() or None

    def _logprob(self, token: int, chances: Chances) -> TokenLogprob:
        top = tuple(Logprob(*self._named(other), logprob) for other, logprob in chances.top)
        return TokenLogprob(*self._named(token), chances.logprob, top)

    def _named(self, token: int) -> tuple[int, str, tuple[int, ...]]:
        data = self._vocab.piece(token)
        return token, data.decode("utf-8", "replace") or self._vocab.text(token), tuple(data)

    def _tell(self, piece: str) -> None:
        """The text has grown by `piece`: so have the tokens that are told. Those of a stop string are not."""
        left = len(piece)
        while self._untold and (left > 0 or not self._pieces.ended):
            told = self._untold.pop(0)
            left -= len(told.text)
            self.logprobs.append(told)

    def _next_token(self, stream: Stream) -> int | None:
        """The next token; the context is made emptier on the way, if the caller's policy is to."""
        while (token := self._engine.next_token(stream)) is None and stream.reason == "context":
            prompt = self._source.more(stream.answer)
            if prompt is None or len(prompt.tokens) >= self._engine.n_ctx:
                break
            self._prompt = prompt
            self._engine.go_on(stream, prompt.tokens)
        return token

    def _end(self) -> None:
        """Give the stream back, and remember for the next turn which tokens the text was made of."""
        if self._ended:
            return
        self._ended = True
        if self._stream is not None:
            self._engine.end(self._stream)
            if self._prompt is not None:
                said, tokens = self._whole(self._stream.said())
                self._memory.generated(self._prompt.text, self._prompt.whole, said, tokens)

    def _whole(self, answer: array[int]) -> tuple[str, array[int]]:
        """The tokens of the answer that are in the text with all their bytes, and that part of the text."""
        data = [self._vocab.piece(token) for token in answer]
        while data and not self.text.startswith(b"".join(data).decode("utf-8", "replace")):
            data.pop()
        return b"".join(data).decode("utf-8", "replace"), answer[: len(data)]
