"""A model that says what it is told to, as slowly as it is told to, and counts what it did."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from localllm.errors import ContextFull, EngineDied, LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.responder import Reply, Responder
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import (
    DeviceMemory,
    Forecast,
    MemorySample,
    Message,
    ModelInfo,
    Plan,
    Progress,
    Stats,
    StopReason,
)
from localllm.tui.loader import Wanted

INFO = ModelInfo(
    name="fake-1b",
    path=Path("fake-1b.gguf"),
    architecture="llama",
    quantization="Q4_K_M",
    parameters=1_000_000_000,
    file_bytes=700_000_000,
    n_ctx=8192,
    n_ctx_train=8192,
    n_layer=24,
    gpu_layers=0,
    threads=2,
    has_chat_template=True,
)
GIB = 1 << 30
PLAN = Plan(
    INFO.path,
    Options(n_ctx=8192, threads=2, gpu_layers=0, kv_type="f16", n_ubatch=512, flash_attention=True, cpu_moe=0),
    (DeviceMemory("CPU", "cpu", 700_000_000, 200 << 20, 64 << 20, 12 * GIB, 16 * GIB, 25),),
    exact=True,
)


def tokens_of(message: Message) -> int:
    return len(message.content) // 4 + 4


@dataclass
class Script:
    """What the model does. Delays in seconds; `dies_after` pieces it raises `error`, at once with 0."""

    reply: str = "The capital of France is **Paris**."
    load_s: float = 0.0
    prefill_s: float = 0.0
    piece_s: float = 0.0
    stop_reason: StopReason = "end"
    error: LocalLLMError | None = None
    dies_after: int = 0
    load_error: LocalLLMError | None = None
    memory_error: LocalLLMError | None = None
    has_chat_template: bool = True


class FakeReply:
    def __init__(self, owner: FakeResponder, messages: Sequence[Message], sampling: Sampling, most: int) -> None:
        self.text = ""
        self.pieces = 0
        self.sampling = sampling
        self.stats: Stats | None = None
        self.progress: Progress | None = None
        self._owner = owner
        self._script = owner.script
        self._most = most
        self._total = sum(map(tokens_of, messages))
        self._cancelled = threading.Event()
        self._pieces = self._make()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self) -> None:
        self.cancel()
        for _ in self:
            pass

    def _sleep(self, seconds: float) -> bool:
        """Whether somebody cancelled; without a delay, let other threads run."""
        return self._cancelled.wait(seconds) if seconds else self._cancelled.is_set()

    def _make(self) -> Iterator[str]:
        script, cached = self._script, self._owner.used
        said = 0
        reason: StopReason = script.stop_reason
        if script.error is not None and not script.dies_after:
            raise script.error
        if self._total >= self._owner.plan.n_ctx:
            raise ContextFull(f"The prompt has {self._total} tokens.", hint="Make the context larger with --ctx.")
        for step in range(1, 11):
            self.progress = Progress(cached + (self._total - cached) * step // 10, self._total, cached)
            if self._sleep(script.prefill_s / 10):
                break
        for start in range(0, len(script.reply), 4):
            if self._sleep(script.piece_s):
                break
            if script.error is not None and said == script.dies_after:
                raise script.error
            said = self.pieces = said + 1
            piece = script.reply[start : start + 4]
            self.text += piece
            yield piece
            if said == self._most:
                reason = "length"
                break
        if self._cancelled.is_set():
            reason = "cancelled"
        self._owner.used = self._total + said
        self.stats = Stats(self._total, min(cached, self._total), said, 0.12, 800.0, 34.1, reason)


@dataclass
class FakeResponder:
    script: Script = field(default_factory=Script)
    wanted: Wanted = field(default_factory=lambda: Wanted(INFO.path))
    asked: list[list[Message]] = field(default_factory=list)
    used: int = 0
    closed: bool = False
    sampled: int = 0
    lost: Callable[[EngineDied], object] | None = None
    """What to call when the engine is killed."""

    @property
    def info(self) -> ModelInfo:
        return replace(
            INFO,
            path=self.wanted.path,
            n_ctx=self.plan.n_ctx,
            has_chat_template=self.script.has_chat_template,
        )

    def reply(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        max_tokens: int = 0,
        anew: bool = False,
    ) -> Reply:
        self.asked.append(list(messages))
        return FakeReply(self, messages, sampling or Sampling(), max_tokens)

    @property
    def plan(self) -> Plan:
        """What was wanted, with what that left open as in `PLAN`."""
        return self.what_if(self.wanted.options) if self.wanted.options.n_ctx else PLAN

    def foresee(self, messages: Sequence[Message]) -> Forecast:
        ends = tuple(itertools.accumulate(map(tokens_of, messages)))
        return Forecast(ends[-1], min(self.used, ends[-1] - 1), ends)

    def what_if(self, options: Options) -> Plan:
        """A KV cache in proportion to the context."""
        (cpu,) = PLAN.devices
        return replace(PLAN, options=options, devices=(replace(cpu, kv=cpu.kv * options.n_ctx // PLAN.n_ctx),))

    def tokenize(self, text: str) -> list[int]:
        return list(range(len(text) // 4 + 1))

    def memory(self) -> MemorySample:
        if self.script.memory_error is not None:
            raise self.script.memory_error
        self.sampled += 1
        device = DeviceMemory("CPU", "cpu", 700_000_000, 200 << 20, 64 << 20, 12 * GIB, 16 * GIB, 24)
        return MemorySample(
            700_000_000, 650_000_000, self.used * 24576, 200 << 20, 64 << 20, GIB, 12 * GIB, 16 * GIB, (device,)
        )

    def context_used(self) -> int:
        return self.used

    def when_lost(self, tell: Callable[[EngineDied], object]) -> None:
        self.lost = tell

    def close(self) -> None:
        self.closed = True


@dataclass
class Garage:
    """Opens fake models, and keeps those it opened. `others` says what the models at some paths do."""

    script: Script = field(default_factory=Script)
    models: list[FakeResponder] = field(default_factory=list)
    others: dict[Path, Script] = field(default_factory=dict)

    def open(self, wanted: Wanted, progress: Callable[[float], None]) -> Responder:
        script = self.others.get(wanted.path, self.script)
        steps = 10 if script.load_s else 1
        for step in range(1, steps + 1):
            threading.Event().wait(script.load_s / steps)
            progress(step / steps)
        if script.load_error is not None:
            raise script.load_error
        model = FakeResponder(script, wanted=wanted)
        self.models.append(model)
        return model
