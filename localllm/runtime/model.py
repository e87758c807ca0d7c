"""A model in this process: loaded after a plan, answering conversations, several at once."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.errors import BadTemplate, BadWorker, EngineDied, UnsupportedModel
from localllm.runtime import last_used, memory
from localllm.runtime.any_model import AnyModel
from localllm.runtime.describing import describe
from localllm.runtime.draft import Ngrams
from localllm.runtime.options import Options
from localllm.runtime.parts import open_parts
from localllm.runtime.plan import make_plan
from localllm.runtime.responder import only_reads
from localllm.runtime.types import Forecast, MemorySample, Message, Plan, check_request

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from localllm.chat_template import ChatTemplate
    from localllm.runtime.engine import Engine
    from localllm.runtime.prompt import Source
    from localllm.runtime.reading import Pooling
    from localllm.runtime.reply import LocalReply
    from localllm.runtime.sampling import Sampling

# What only answers need is imported where it is used: `open_parts` has it imported while llama.cpp loads.


class Model(AnyModel):
    """A loaded model. Use it as a context manager, or `close()` it: that frees everything. `plan` is what it took.

    One that nobody holds any more is freed when Python collects its garbage.

    Replies may be made at once, each read by a thread of its own: they share batches and the KV cache. All methods may
    be called from any thread.
    """

    def __init__(
        self,
        path: Path,
        options: Options,
        progress: Callable[[float], bool] | None = None,
        *,
        in_child: bool = False,
        settle: Callable[[Options], Options] = lambda options: options,
    ) -> None:
        if options.workers and not in_child:
            raise BadWorker(
                "A model that uses workers runs in its own process, for llama.cpp ends one whose worker goes away.",
                hint="Use localllm.load_process or ModelProcess.load.",
            )
        self._using = threading.Lock()  # held while the vocabulary is read, and while it is freed
        self._closed = False
        parts = self._parts = open_parts(path, options, progress, settle)
        self._abandoned = weakref.finalize(self, parts.close)  # by a program that did not close it
        self._abandoned.atexit = False  # the system frees more surely then
        self._handle, self._vocab, self._tokens, self.plan = parts.handle, parts.vocab, parts.tokens, parts.plan
        self._template: ChatTemplate | None = None
        from localllm.runtime.prompt import Prompter
        from localllm.runtime.sampler import recommended

        self._prompter = Prompter(self._tokens, self._chat_template, self.plan.n_ctx, self.plan.options.window)
        self.default_sampling = recommended(self._handle, self.plan.options.recommended)
        self.info = describe(parts, self.default_sampling)
        self._mapped = memory.Mapped([header.path for header in parts.headers])
        last_used.note(path)

    @classmethod
    def load(
        cls,
        path: Path,
        options: Options | None = None,
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        settle: Callable[[Options], Options] = lambda options: options,
    ) -> Model:
        """Plan, check that it fits, and load the GGUF at `path`.

        `progress` is called with 0…1; when `cancelled` returns True the load is given up. `settle` may fill in what of
        the options no load depends on; it is called while the weights are read.

        Raises:
            ModelNotFound, BadModelFile, UnsupportedModel: the file cannot be run, or an adapter is not for it.
            DoesNotFit: there is not enough memory, or no device for the layers asked for.
            BadWorker: `options` name workers, which only `ModelProcess` may use.
            Cancelled: `cancelled` returned True.
        """

        def report(fraction: float) -> bool:
            if progress is not None:
                progress(fraction)
            return cancelled is None or not cancelled()

        return cls(Path(path), options or Options(), report, settle=settle)

    def when_lost(self, tell: Callable[[EngineDied], object]) -> None:
        """See `Responder.when_lost`: what is in this process ends with it, and who could be told does, too."""

    def close(self) -> None:
        """Stop a running reply and free the KV cache and the weights. The model answers nothing after that.

        Safe to call again, also after Ctrl-C came in the middle of it.
        """
        with self._using:
            self._closed = True
            self._parts.close()
            self._abandoned.detach()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was chosen or is unusual."""
        return self.plan.notes

    def reply(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        max_tokens: int = 0,
        anew: bool = False,
    ) -> LocalReply:
        """Answer a conversation; see `Responder.reply`.

        Raises:
            ValueError: there are no messages, or a value of `sampling` that the vocabulary does not have.
            BadGrammar: the grammar or schema of `sampling` cannot be followed.
        """
        said = tuple(messages)
        check_request(max_tokens, messages=said)
        return self._answer(self._prompter.conversation(said, max_tokens), sampling, max_tokens, anew=anew)

    def complete(self, prompt: str, *, sampling: Sampling | None = None, max_tokens: int = 0) -> LocalReply:
        """Continue `prompt` as it stands, without a chat template."""
        check_request(max_tokens, prompt=prompt)
        return self._answer(self._prompter.raw(prompt), sampling, max_tokens)

    def fill(self, prefix: str, suffix: str, *, sampling: Sampling | None = None, max_tokens: int = 0) -> LocalReply:
        """What stands between `prefix` and `suffix`, by a model that was trained to fill in the middle.

        Raises:
            UnsupportedModel: its vocabulary has no tokens for that.
        """
        from localllm.runtime.prompt import filling

        check_request(max_tokens)
        with self._using:
            self._check_open()
            text = filling(self._vocab, self.info.title, prefix, suffix)
        return self._answer(self._prompter.raw(text), sampling, max_tokens)

    def embed(
        self, texts: Sequence[str], *, normalize: bool = True, truncate: bool = False, pooling: Pooling | None = None
    ) -> NDArray[np.float32]:
        """Vectors for texts: float32 [n, d], of length one if `normalize`. Batched by tokens.

        The vectors of the tokens become one as the model file says; `pooling` overrules it. A text that is longer than
        the context is an error, or with `truncate` only its start counts.

        Raises:
            ContextFull: a text is too long.
            UnsupportedModel: the file does not say how to pool, and neither do you.
            ValueError: a text has no tokens.
        """
        return self._parts.reading().embed(texts, normalize=normalize, truncate=truncate, pooling=pooling)

    def rerank(self, query: str, documents: Sequence[str]) -> NDArray[np.float32]:
        """How well each document answers `query`, by a model that was trained to rank: float32 [n], higher is better.

        Raises:
            UnsupportedModel: it was not.
            ContextFull: a document is too long.
        """
        reader = self._parts.reading()
        from localllm.runtime.reading import RANK

        if self._parts.headers[0].integer("{arch}.pooling_type") != RANK:
            raise UnsupportedModel(
                f"{self.info.title} is no reranker.", hint="Choose one that was trained to rank documents."
            )
        return reader.rerank(query, documents)

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The logits of what follows each of `tokens`: float32 [n, vocabulary].

        Raises:
            ContextFull: they are more than the context holds.
            ValueError: there are none, or one is not in the vocabulary.
        """
        self._writer()
        return self._parts.reading().logits(tokens)

    def foresee(self, messages: Sequence[Message]) -> Forecast:
        """What an answer to `messages` would begin with. Computes nothing, and refuses no length.

        Raises:
            ValueError: there are no messages.
            BadTemplate: the conversation cannot be rendered.
        """
        from localllm.runtime.forecast import ends_of

        said = tuple(messages)
        check_request(0, messages=said)
        with self._using:
            self._check_open()
            prompt = self._prompter.conversation(said, 0).first()
            ends = ends_of(said, prompt, self._vocab.written)
        return Forecast(len(prompt.tokens), self._writer().spared(prompt.tokens) if prompt.tokens else 0, ends)

    def what_if(self, options: Options) -> Plan:
        """The plan for this model with other options, as memory is now, with this model still in it."""
        return make_plan(self.info.path, options)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text` as a whole prompt, special tokens read."""
        with self._using:
            self._check_open()
            return self._vocab.tokenize_prompt(text)

    def memory(self) -> MemorySample:
        """Memory now; see `MemorySample`."""
        taken = memory.sample(
            self._mapped,
            self.plan.devices,
            used_tokens=self._cells(),
            n_ctx=self.info.n_ctx,
            copied=self._parts.copied,
        )
        engine = self._parts.engine
        return taken if engine is None else replace(taken, states=engine.ram(), snapshots=engine.disk())

    def forget(self) -> None:
        """Empty the KV cache and forget what was generated: the next prompt is tokenized and evaluated whole."""
        self._writer().forget()
        self._tokens.forget()

    def context_used(self) -> int:
        """Tokens of the conversation that was used last, in the KV cache."""
        return self._parts.engine.latest() if self._parts.engine is not None else 0

    def _cells(self) -> int:
        return self._parts.engine.cells() if self._parts.engine is not None else 0

    def _writer(self) -> Engine:
        if self._parts.engine is None:
            raise only_reads(self.info)
        return self._parts.engine

    def _check_open(self) -> None:
        if self._closed:
            raise EngineDied("The model is closed.", hint="Load it again.")

    def _answer(self, source: Source, sampling: Sampling | None, max_tokens: int, *, anew: bool = False) -> LocalReply:
        from localllm.runtime.reply import LocalReply
        from localllm.runtime.sampler import check
        from localllm.runtime.sampling import Sampling, resolve

        resolved = resolve(sampling or Sampling(), self.default_sampling)
        with self._using:
            self._check_open()
            check(resolved, self._vocab)
            if self.plan.options.mmap:
                self._parts.files.check()
            drafter = self._parts.draft.drafter() if self._parts.draft is not None else Ngrams()
            reply = LocalReply(
                self._writer(), self._vocab, self._tokens, source, resolved, max_tokens, drafter, anew=anew
            )
            self._parts.replies.add(reply)
        return reply

    def _chat_template(self) -> ChatTemplate:
        if self._template is None:
            source = self.plan.options.chat_template or self._handle.chat_template()
            if not source:
                raise BadTemplate(
                    f"{self.info.title} has no chat template, so there is no telling how it was trained to chat.",
                    hint="Give it the template that it was trained with (--chat-template FILE, chat_template in "
                    "Python), continue a text with it (--raw, complete()), or convert it from a checkpoint with one.",
                )
            from localllm.chat_template import ChatTemplate

            self._template = ChatTemplate(source, self._vocab.template_tokens())
        return self._template
