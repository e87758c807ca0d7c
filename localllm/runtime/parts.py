"""What a loaded model is made of: opened after a plan, and freed in the order in which one uses another.

Knows no conversations and no replies but that they have to end first.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from localllm import paths
from localllm.errors import BadTemplate, EngineDied, UnsupportedModel
from localllm.gguf_file import Header, read_parts
from localllm.native import handles, lib, rpc
from localllm.native.kv import KV
from localllm.native.vocab import Vocab
from localllm.runtime.adapters import Adapter, load_adapters
from localllm.runtime.aside import Aside
from localllm.runtime.blas import blas_that_sleeps
from localllm.runtime.context import open_context
from localllm.runtime.loading import ModelFiles, as_loaded, copied_bytes, let_go_of_copied, read_weights
from localllm.runtime.options import Options
from localllm.runtime.plan import check_fits, plan_quickly
from localllm.runtime.types import Plan

if TYPE_CHECKING:
    from localllm.runtime.draft_model import DraftModel
    from localllm.runtime.engine import Engine
    from localllm.runtime.reading import Reader
    from localllm.runtime.reply import LocalReply
    from localllm.runtime.snapshots import Snapshots
    from localllm.runtime.template import TokenMemory

# What is not needed before llama.cpp reads the weights is imported where it is used: see `aside`.


class Reading:
    """What reads texts with a model, made when it is first called for: see `blas`."""

    def __init__(self, make: Callable[[], Reader]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made: Reader | None = None
        self._closed = False

    def __call__(self) -> Reader:
        """The one reader.

        Raises:
            EngineDied: it is closed.
        """
        with self._lock:
            if self._closed:
                raise EngineDied("The model is closed.", hint="Load it again.")
            if self._made is None:
                with blas_that_sleeps():
                    self._made = self._make()
            return self._made

    def close(self) -> None:
        """Stop what is being read, and make none any more."""
        with self._lock:
            self._closed = True
        if self._made is not None:
            self._made.close()


@dataclass(frozen=True)
class Parts:
    """A model in memory. `plan` is what it took; `engine` is None for one that only reads, `draft` if none drafts.
    `copied` bytes of its weights were copied out of the mapped files.

    `headers` and `files` are of the file, or of all files of a model in several. `replies` are those that are made.
    """

    plan: Plan
    headers: tuple[Header, ...]
    files: ModelFiles
    handle: handles.ModelHandle
    vocab: Vocab
    tokens: TokenMemory
    engine: Engine | None
    draft: DraftModel | None
    reading: Reading
    copied: int
    replies: weakref.WeakSet[LocalReply] = field(default_factory=weakref.WeakSet)

    def close(self) -> None:
        """Stop what is made and free all. Safe to call again, also after Ctrl-C came in the middle of it."""
        self.reading.close()
        if self.engine is not None:
            self.engine.close()
        if self.draft is not None:
            self.draft.close()
        # Their threads may be between a token and its text, which the vocabulary has.
        for reply in list(self.replies):
            reply.close()
        self.handle.close()
        lib.give_memory_back()


def open_parts(
    path: Path,
    options: Options,
    progress: Callable[[float], bool] | None,
    settle: Callable[[Options], Options] = lambda options: options,
) -> Parts:
    """Plan, check that it fits, and load the GGUF at `path`. Ctrl-C ends the load. Raises as `Model.load`.

    `settle` fills in options that no load depends on; it is called while the weights are read.
    """
    stopped, aside = threading.Event(), Aside()

    def go_on(fraction: float) -> bool:
        return not stopped.is_set() and (progress is None or progress(fraction))

    def work() -> Parts:
        try:
            return _open(path, options, go_on, settle, aside)
        finally:
            aside.ended()

    def stop() -> None:
        stopped.set()
        aside.give_up()

    # All of it apart: llama.cpp logs while it makes a context, too, and Ctrl-C would be lost in that callback.
    return lib.apart(work, stop, Parts.close, aside.run)


def _open(
    path: Path,
    options: Options,
    progress: Callable[[float], bool],
    settle: Callable[[Options], Options],
    aside: Aside,
) -> Parts:
    headers = read_parts(path)
    plan, in_full = plan_quickly(next(header for header in headers if header.path == path), options)
    check_fits(plan)

    places = [header.path for header in headers]
    files = ModelFiles(places)
    for worker in plan.options.workers:
        rpc.ask(worker)  # llama.cpp would wait without end for one that another program took in the meantime
    aside.weights_are_read()
    handle, lines = read_weights(plan, progress)

    def settled() -> Plan:
        let_go_of_copied(plan, places, lines)
        full = in_full()
        _compile_template(full.options.chat_template or headers[0].get("tokenizer.chat_template"))
        return replace(full, options=settle(full.options))

    with ExitStack() as made:
        made.callback(handle.close)
        vocab = _vocabulary(handle, path)
        adapters = load_adapters(handle, headers[0].architecture, plan.options.lora)
        opened = partial(open_context, handle, plan.options, adapters)
        aside.context_is_made(settled)
        context = opened()
        made.callback(context.close)
        from localllm.runtime.template import TokenMemory

        plan, tokens = as_loaded(aside.plan(), context, lines, adapters), TokenMemory(vocab)
        snapshots = partial(_snapshots, headers[0].path, files, plan.options, adapters, tokens)
        engine = _engine(handle, vocab, context, plan.options, snapshots)
        if engine is not None:
            made.callback(engine.close)
        draft, plan = _draft(plan)
        # A context is rounded up, and what reads has no positions beyond those that it was trained with.
        longest = min(plan.n_ctx, headers[0].context_length or plan.n_ctx)
        reading = Reading(lambda: _reader(handle, vocab, opened, longest))
        made.pop_all()
    copied = copied_bytes(lines) if plan.options.mmap else 0
    small = tuple(header.without_vocabulary() for header in headers)
    return Parts(plan, small, files, handle, vocab, tokens, engine, draft, reading, copied)


def _draft(plan: Plan) -> tuple[DraftModel | None, Plan]:
    if plan.options.draft in ("", "off", "ngram"):
        return None, plan
    with blas_that_sleeps():
        from localllm.runtime.draft_model import open_draft
    return open_draft(plan)


def _reader(handle: handles.ModelHandle, vocab: Vocab, opened: Callable[..., handles.ContextHandle], n: int) -> Reader:
    from localllm.runtime.reading import Reader

    return Reader(handle, vocab, opened, n)


def _vocabulary(handle: handles.ModelHandle, path: Path) -> Vocab:
    from localllm.runtime.thinking import MARKS

    vocab = Vocab(handle, MARKS)
    if not vocab.kind:
        raise UnsupportedModel(f"{path.name} has no tokenizer.", hint="Convert it again from its checkpoint.")
    return vocab


def _compile_template(source: object) -> None:
    """Have the chat template ready; one that does not parse is told to whoever asks for an answer."""
    from localllm import chat_template

    if isinstance(source, str):
        with suppress(BadTemplate):
            chat_template.compiled(source)


def _engine(
    handle: handles.ModelHandle,
    vocab: Vocab,
    context: handles.ContextHandle,
    options: Options,
    snapshots: Callable[..., Snapshots | None],
) -> Engine | None:
    """What serves replies; None for a model that only reads, with contexts of its own: this one, which has no memory,
    is closed."""
    if context.memory is None:
        context.close()
        return None
    from localllm.runtime.engine import Engine

    kv = KV(handle, context)
    return Engine(
        vocab,
        context,
        kv,
        chunk=options.n_ubatch,
        sequences=options.sequences,
        ram=options.kv_ram,
        disk=snapshots(whole=kv.whole),
        guesses=options.guesses,
        # The CPU's threads share out all cells in use by their place. Without flash attention they multiply with those
        # of others too; with it they pass over them, and a thread that has only such cells waits for the rest.
        looks_at_all=not options.gpu_layers,
    )


def _snapshots(
    path: Path,
    files: ModelFiles,
    options: Options,
    adapters: Sequence[Adapter],
    tokens: TokenMemory,
    *,
    whole: bool,
) -> Snapshots | None:
    """The snapshots that a model, loaded with these options, can take up; None without room for any."""
    if not options.kv_disk:
        return None
    from localllm.runtime.snapshot_file import Identity
    from localllm.runtime.snapshots import Snapshots

    # Where llama.cpp chooses it takes flash attention. If not, it refuses the state, whose V has another layout.
    layout = f"{options.kv_type} {options.flash_attention is not False}"
    identity = Identity(
        place=str(path.resolve()),
        content=f"{lib.build()} {files}",
        setup=f"{layout} {[adapter.identity for adapter in adapters]}",
    )
    disk = Snapshots(paths.snapshots_dir(), identity, options.kv_disk, whole=whole, texts_of=tokens.texts_of)
    tokens.learn(disk.texts())
    return disk
