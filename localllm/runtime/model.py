"""A model in this process: loaded after a plan, answering conversations one at a time."""

from __future__ import annotations

import codecs
import re
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from localllm.errors import BadTemplate, EngineDied
from localllm.gguf_file import read_header
from localllm.native import handles, ledger, lib
from localllm.native.vocab import Vocab
from localllm.runtime import memory
from localllm.runtime.engine import Engine
from localllm.runtime.plan import check_fits, layers_by_device, plan_quickly
from localllm.runtime.sampling import build, recommended, resolve
from localllm.runtime.session import Chat
from localllm.runtime.template import ChatTemplate, TokenMemory
from localllm.runtime.types import DeviceMemory, MemorySample, Message, ModelInfo, Options, Progress, Sampling, Stats


class Model:
    """A loaded model. Use it as a context manager, or `close()` it: that frees everything. `plan` is what it took.

    One reply at a time: a second one waits until the first ended. `cancel()` on a reply, `memory()`, `context_used()`
    and `close()` are safe from any thread.
    """

    def __init__(self, path: Path, options: Options, progress: Callable[[float], bool] | None = None) -> None:
        self._lock = threading.Lock()
        self._running: tuple[int, LocalReply] | None = None  # the thread that iterates it, and the reply
        plan = plan_quickly(path, options)
        check_fits(plan)
        options = plan.options
        self._handle, lines = _open(path, options, progress)
        self._layers = layers_by_device(lines)
        try:
            context = handles.open_context(
                self._handle,
                n_ctx=options.n_ctx,
                n_batch=options.n_batch,
                n_ubatch=options.n_ubatch,
                threads=options.threads,
                kv_type=options.kv_type,
                flash_attention=options.flash_attention,
            )
        except BaseException:
            self._handle.close()
            raise
        self._vocab = Vocab(self._handle)
        self._engine = Engine(self._handle, self._vocab, context, chunk=options.n_ubatch)
        exact = ledger.supported()
        self._uses = ledger.read(context.pointer) if exact else memory.as_buffers(plan.devices)
        self.plan = replace(
            plan,
            options=replace(options, n_ctx=context.n_ctx),
            devices=_as_planned(memory.by_device(self._uses, self._layers), plan.devices),
            exact=exact,
        )
        self._tokens = TokenMemory(self._vocab)
        self._template = self._read_template()
        self.default_sampling = recommended(self._handle)
        self.info = self._describe()

    @classmethod
    def load(
        cls, path: Path, options: Options | None = None, *, progress: Callable[[float], None] | None = None
    ) -> Model:
        """Plan, check that it fits, and load the GGUF at `path`. `progress` is called with 0…1.

        Raises:
            ModelNotFound, BadModelFile, UnsupportedModel: the file cannot be run.
            DoesNotFit: there is not enough memory, or no device for the layers asked for.
        """
        report = None if progress is None else lambda fraction: (progress(fraction), True)[1]
        return cls(Path(path), options or Options(), report)

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop a running reply and free the KV cache and the weights. The model answers nothing after that."""
        here, running = self._running_here, self._running
        if here is not None:
            here.close()
        elif running is not None:
            running[1].cancel()
        with self._lock:
            self._engine.close()
            self._handle.close()

    def chat(self, system: str | None = None, *, sampling: Sampling | None = None, max_tokens: int = 0) -> Chat:
        """A conversation with this model; `system` is the system prompt, `max_tokens` 0 is no limit."""
        return Chat(self, system=system, sampling=sampling, max_tokens=max_tokens)

    def reply(
        self, messages: Sequence[Message], *, sampling: Sampling | None = None, max_tokens: int = 0
    ) -> LocalReply:
        """Answer a conversation; see `Responder.reply`."""
        return self._answer(lambda: self._render(messages), sampling, max_tokens)

    def complete(self, prompt: str, *, sampling: Sampling | None = None, max_tokens: int = 0) -> LocalReply:
        """Continue `prompt` as it stands, without a chat template."""
        if not prompt:
            raise ValueError("the prompt is empty")
        return self._answer(lambda: prompt, sampling, max_tokens)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text` as a whole prompt, special tokens read."""
        return self._vocab.tokenize(text, add_special=True, parse_special=True)

    def memory(self) -> MemorySample:
        """Memory now; see `MemorySample`."""
        return memory.sample(
            self.info.path, self._uses, self._layers, used_tokens=self.context_used(), n_ctx=self.info.n_ctx
        )

    def forget(self) -> None:
        """Empty the KV cache and forget what was generated: the next prompt is tokenized and evaluated whole."""
        with self._lock:
            self._engine.forget()
            self._tokens.forget()

    def context_used(self) -> int:
        """Tokens in the KV cache."""
        return len(self._engine.cached)

    def _answer(self, prompt: Callable[[], str], sampling: Sampling | None, max_tokens: int) -> LocalReply:
        resolved = resolve(sampling or Sampling(), self.default_sampling)
        reply = LocalReply(resolved)
        reply._pieces = self._generate(reply, prompt, resolved, max_tokens)
        return reply

    def _generate(
        self, reply: LocalReply, prompt: Callable[[], str], sampling: Sampling, max_tokens: int
    ) -> Generator[str, None, None]:
        if self._running_here is not None:
            raise RuntimeError("an earlier reply of this model is not finished: iterate it to its end or close() it")
        with self._lock:
            if self._handle.pointer is None:
                raise EngineDied("The model is closed.", hint="Load it again.")
            self._engine.ready()
            reply._attach(self._engine)
            self._running = (threading.get_ident(), reply)
            sampler = build(sampling, self._vocab.size)
            try:
                text = prompt()
                prompt_tokens = self._tokens.tokenize(text)
                tokens = self._engine.generate(prompt_tokens, sampler, max_tokens)
                yield from self._pieces(reply, text, prompt_tokens, tokens)
            finally:
                reply._detach()
                self._running = None
                sampler.close()

    @property
    def _running_here(self) -> LocalReply | None:
        """The unfinished reply that this thread began: waiting for it would wait for ourselves."""
        running = self._running
        return running[1] if running is not None and running[0] == threading.get_ident() else None

    def _pieces(
        self, reply: LocalReply, prompt: str, prompt_tokens: list[int], tokens: Generator[int, None, None]
    ) -> Iterator[str]:
        """Text of `tokens`, whole characters only, recorded in `reply` and for the next turn."""
        answer: list[int] = []
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            for token in tokens:
                answer.append(token)
                piece = decoder.decode(self._vocab.piece(token))
                if piece:
                    reply.text += piece
                    yield piece
            rest = decoder.decode(b"", final=True)
            if rest:
                reply.text += rest
                yield rest
        finally:
            tokens.close()
            self._tokens.generated(prompt, prompt_tokens, reply.text, answer)

    def _render(self, messages: Sequence[Message]) -> str:
        if self._template is None:
            raise BadTemplate(
                f"{self.info.path.name} has no chat template, so there is no telling how it was trained to chat.",
                hint="Use --raw to continue a text with it, or convert it from a checkpoint that has a template.",
            )
        return self._template.render(messages)

    def _read_template(self) -> ChatTemplate | None:
        source = self._handle.chat_template()
        if not source:
            return None
        return ChatTemplate(source, bos=self._vocab.text(self._vocab.bos), eos=self._vocab.text(self._vocab.eos))

    def _describe(self) -> ModelInfo:
        header = read_header(self.plan.path)
        return ModelInfo(
            name=display_name(self.plan.path, header.quantization),
            path=self.plan.path,
            architecture=header.architecture,
            quantization=header.quantization,
            parameters=header.parameters,
            file_bytes=header.file_bytes,
            n_ctx=self.plan.n_ctx,
            n_ctx_train=header.context_length,
            n_layer=header.n_layer,
            gpu_layers=self.plan.gpu_layers,
            threads=self.plan.options.threads,
            has_chat_template=self._template is not None,
        )


class LocalReply:
    """A reply made in this process; see `Reply`. `sampling` is what was used, the seed included.

    `on_progress`, if set before the first piece, is called by the iterating thread while the prompt is evaluated.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.text = ""
        self.on_progress: Callable[[Progress], None] | None = None
        self._pieces: Generator[str, None, None] | None = None
        self._engine: Engine | None = None
        self._stats: Stats | None = None
        self._cancelled = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._pieces is None:
            raise StopIteration
        return next(self._pieces)

    def close(self) -> None:
        """End the iteration now and keep what was said."""
        if self._pieces is not None:
            self._pieces.close()

    def cancel(self) -> None:
        """Stop as soon as possible; safe from any thread, also before the first piece."""
        self._cancelled = True
        engine = self._engine
        if engine is not None:
            engine.stop()

    @property
    def stats(self) -> Stats | None:
        """What it cost; None until the iteration ended."""
        return self._stats

    @property
    def progress(self) -> Progress | None:
        """How far the prompt is evaluated; None before that begins."""
        return self._engine.progress if self._engine is not None else None

    def _attach(self, engine: Engine) -> None:
        engine.progress = engine.stats = None
        engine.on_progress = self.on_progress
        self._engine = engine
        if self._cancelled:
            engine.stop()

    def _detach(self) -> None:
        if self._engine is not None:
            self._stats, self._engine = self._engine.stats, None


def _open(
    path: Path, options: Options, progress: Callable[[float], bool] | None
) -> tuple[handles.ModelHandle, list[str]]:
    """The model and the log of its load. Ctrl-C ends the load."""
    stopped = threading.Event()

    def go_on(fraction: float) -> bool:
        return not stopped.is_set() and (progress is None or progress(fraction))

    def load() -> tuple[handles.ModelHandle, list[str]]:
        with lib.captured_log() as lines:
            layers, mode = options.gpu_layers or 0, _load_mode(options)
            return handles.open_model(path, gpu_layers=layers, load_mode=mode, progress=go_on), lines

    return lib.apart(load, stopped.set)


def display_name(path: Path, quantization: str) -> str:
    """What a person calls the model: the file's name without its type and part. `general.name` is often a codename."""
    part = re.compile(r"-\d{5}-of-\d{5}$")
    return re.sub(rf"[-._]{re.escape(quantization)}$", "", part.sub("", path.stem), flags=re.IGNORECASE)


def _as_planned(taken: Sequence[DeviceMemory], planned: Sequence[DeviceMemory]) -> tuple[DeviceMemory, ...]:
    """What was `taken`, beside what was free before."""
    return tuple(replace(real, free=before.free) for real, before in zip(taken, planned, strict=True))


def _load_mode(options: Options) -> int:
    if options.mlock:
        return handles.LOAD_MMAP_MLOCK if options.mmap else handles.LOAD_MLOCK
    return handles.LOAD_MMAP if options.mmap else handles.LOAD_READ
