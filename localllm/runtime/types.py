"""The words of the runtime as data: what goes in, what comes out, and the interface of anything that answers.

Knows nothing of llama.cpp. Everything here survives a trip through JSON, so the same values describe an engine in this
process and one in a child process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypedDict, get_args

from localllm.native.rpc import parse_endpoint
from localllm.runtime.draft import MOST
from localllm.runtime.sampling import Sampling as Sampling

KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""Types that llama.cpp accepts for the KV cache."""

WIDE_KV_TYPES = ("f32", "f16", "bf16")
"""Those that are not quantized."""

DEFAULT_KV_TYPE, DEFAULT_UBATCH = "f16", 512
"""What is used where a setting was left open and `localllm tune` found nothing else."""

MAX_THREADS = 512
"""`GGML_MAX_N_THREADS` of ggml.h."""

MAX_SEQUENCES = 256
"""`LLAMA_MAX_SEQ` of llama.cpp."""

Window = Literal["stop", "drop-oldest-turns", "shift"]
"""What happens when a conversation is longer than the context; see `Options`."""

StopReason = Literal["end", "stop", "length", "context", "cancelled"]
"""`end`: the model ended its turn; `stop`: a stop string came; `length`: `max_tokens`; `context`: the window is full;
`cancelled`."""


@dataclass(frozen=True)
class Message:
    """One message of a conversation. `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


def check_request(max_tokens: int, *, prompt: str | None = None, messages: Sequence[Message] | None = None) -> None:
    """Refuse a request that asks for nothing.

    Raises:
        ValueError: the prompt is empty, there are no messages, or fewer than no tokens are asked for.
        TypeError: the prompt is no text.
    """
    if prompt is not None and not isinstance(prompt, str):
        raise TypeError(f"the prompt is a text, not {type(prompt).__name__}")
    if prompt == "":
        raise ValueError("the prompt is empty")
    if messages is not None and not messages:
        raise ValueError("there are no messages to answer")
    if max_tokens < 0:
        raise ValueError(f"{max_tokens} tokens at most are fewer than none; 0 is no limit")


@dataclass(frozen=True)
class Options:
    """How a model is loaded: the engine flags of the command line.

    `n_ctx`, `threads` and `n_ubatch` 0 mean: choose; `gpu_layers` None means as many as fit. `flash_attention` None
    means llama.cpp decides. `kv_type` is one of `KV_TYPES`, two of them for K and V apart, as in `q8_0/f16`, or `auto`.
    With `tuned`, threads, ubatch, flash attention and KV type that are left open are those that `localllm tune` found.
    `sequences` conversations share the KV cache at once; those that have to leave it are kept in up to `kv_ram` bytes
    of RAM, and in files of up to `kv_disk` bytes together, where they are found again by the next load of the model.

    `workers` are HOST:PORT of `localllm worker`s, whose devices take layers as GPUs do; with `retry_locally` a model
    whose worker goes away is loaded again without workers, and goes on. `split` says in which proportions the devices
    share the layers, in the order of the plan; empty means by what fits. The experts of the first `cpu_moe` layers of a
    mixture of experts stay in RAM; None means as few as possible.

    `lora` are LoRA adapters, each a GGUF and the scale with which it counts.

    `window` is what happens when a conversation fills the context. `stop`: the answer ends, and a longer prompt is
    refused. `drop-oldest-turns`: the oldest turns are left out, half of them at once, never the system prompt nor the
    last turn. `shift`: the oldest tokens behind the system prompt are left out, wherever that cuts.

    `draft` is who guesses the next tokens for the model to check: `ngram`, the text itself where it repeats; or the
    path of a small model with the same vocabulary. Empty or `off` is nobody. The answers are the same.

    Raises:
        ValueError: a number that llama.cpp could only abort on.
    """

    n_ctx: int = 0
    threads: int = 0
    gpu_layers: int | None = None
    kv_type: str = "auto"
    n_batch: int = 2048
    n_ubatch: int = 0
    flash_attention: bool | None = None
    mmap: bool = True
    mlock: bool = False
    sequences: int = 4
    kv_ram: int = 512 << 20
    kv_disk: int = 0
    window: Window = "stop"
    draft: str = ""
    workers: tuple[str, ...] = ()
    split: tuple[float, ...] = ()
    cpu_moe: int | None = None
    retry_locally: bool = False
    tuned: bool = True
    lora: tuple[tuple[str, float], ...] = ()

    @property
    def guesses(self) -> int:
        """How many tokens more than one for each sequence are sampled in a batch."""
        return MOST if self.draft not in ("", "off") else 0

    def __post_init__(self) -> None:
        if any(not math.isfinite(scale) for _, scale in self.lora):
            raise ValueError("the scale of a LoRA adapter is a number")
        for worker in self.workers:
            parse_endpoint(worker)
        if len(set(self.workers)) < len(self.workers):
            raise ValueError("a worker is named twice")
        for kind in self.kv_types:
            if kind not in KV_TYPES:
                raise ValueError(f"the KV cache has no type {kind!r}; it has {', '.join(KV_TYPES)}")
        if self.flash_attention is False and self.kv_types[1] not in WIDE_KV_TYPES:
            raise ValueError(f"V in {self.kv_types[1]} needs flash attention; without it only K can be quantized")
        if any(not 0 <= share < math.inf for share in self.split) or (self.split and not sum(self.split)):
            raise ValueError("the split over devices is proportions, such as 3,1")
        if self.window not in get_args(Window):
            raise ValueError(f"{self.window!r} is no policy for a full context: {', '.join(get_args(Window))}")
        if not 0 <= self.threads <= MAX_THREADS:
            raise ValueError(f"{self.threads} threads: llama.cpp takes up to {MAX_THREADS}")
        if self.n_ctx < 0 or self.n_ctx >= 1 << 31 or (self.gpu_layers or 0) < 0 or (self.cpu_moe or 0) < 0:
            raise ValueError("the context and the number of layers are counts")
        if not 1 <= self.sequences <= MAX_SEQUENCES:
            raise ValueError(f"{self.sequences} sequences: llama.cpp takes 1 to {MAX_SEQUENCES}")
        if self.kv_ram < 0 or self.kv_disk < 0:
            raise ValueError("the room for conversations, in RAM and on disk, is a number of bytes")
        if self.n_batch < 1 or not 0 <= self.n_ubatch <= self.n_batch < 1 << 31:
            raise ValueError(f"a batch of {self.n_batch} cannot hold ubatches of {self.n_ubatch}")

    @property
    def kv_types(self) -> tuple[str, str]:
        """The types of K and of V; the usual ones where that is open."""
        k, _, v = (DEFAULT_KV_TYPE if self.kv_type == "auto" else self.kv_type).partition("/")
        return k, v or k


class OptionFields(TypedDict, total=False):
    """The fields of `Options`, all of them optional: what functions take by name."""

    n_ctx: int
    threads: int
    gpu_layers: int | None
    kv_type: str
    n_batch: int
    n_ubatch: int
    flash_attention: bool | None
    mmap: bool
    mlock: bool
    sequences: int
    kv_ram: int
    kv_disk: int
    window: Window
    draft: str
    workers: tuple[str, ...]
    split: tuple[float, ...]
    cpu_moe: int | None
    retry_locally: bool
    tuned: bool
    lora: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Stats:
    """What one reply cost. Rates are tokens per second; a rate that was not measured is 0.

    `prompt_tokens` counts the whole prompt, `cached_tokens` those of them that were already in the KV cache, so
    `prompt_tokens - cached_tokens` were evaluated.

    `drafted_tokens` were guessed, and the model itself came to `accepted_tokens` of them.

    `dropped_messages` and `dropped_tokens` were left out because the context has no room for them, by the policies
    `drop-oldest-turns` and `shift`. `rewritten_tokens` had been computed for an earlier turn, and were of no use
    because the chat template writes that turn otherwise now.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft_s: float
    prefill_tps: float
    decode_tps: float
    stop_reason: StopReason
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    dropped_messages: int = 0
    dropped_tokens: int = 0
    rewritten_tokens: int = 0

    @property
    def losses(self) -> list[str]:
        """What was left out or computed twice, in words."""
        counts = {
            "messages left out, the oldest": self.dropped_messages,
            "tokens left out, the oldest": self.dropped_tokens,
            "tokens computed again: the chat template rewrites earlier turns": self.rewritten_tokens,
        }
        return [f"{count:,} {what}" for what, count in counts.items() if count]


@dataclass(frozen=True)
class Logprob:
    """A token and the natural logarithm of its probability, as the model gives it before any sampler.

    `text` is that of `bytes`, which may be a part of a character only, or the name of a token without any.
    """

    token: int
    text: str
    bytes: tuple[int, ...]
    logprob: float


@dataclass(frozen=True)
class TokenLogprob(Logprob):
    """A token of a reply, and the likeliest tokens in its place, likeliest first."""

    top: tuple[Logprob, ...]


@dataclass(frozen=True)
class DeviceMemory:
    """What one device holds for us, and its state. All in bytes. `layers` counts the layers it runs.

    `kind` is `cpu`, `gpu`, `igpu` or `worker`, `worker` then its HOST:PORT.
    """

    name: str
    kind: str
    weights: int
    kv: int
    compute: int
    free: int
    total: int
    layers: int = 0
    worker: str = ""


@dataclass(frozen=True)
class Plan:
    """What goes where. `options` have nothing left open; `notes` are sentences on what was chosen or is unusual.

    `devices` holds the sizes per device and its free memory now. `exact` is False where a formula had to estimate,
    and `estimate` says which sizes and why.
    `advice` says what would fit if this does not.
    """

    path: Path
    options: Options
    devices: tuple[DeviceMemory, ...]
    exact: bool
    estimate: str = ""
    notes: tuple[str, ...] = ()
    advice: str = ""

    @property
    def n_ctx(self) -> int:
        """The context in tokens."""
        return self.options.n_ctx

    @property
    def gpu_layers(self) -> int:
        """How many layers go to GPUs; the output layer counts as one."""
        return self.options.gpu_layers or 0

    @property
    def fits(self) -> bool:
        """Whether every device has room for its part now."""
        return all(needs(device) <= device.free for device in self.devices)

    @property
    def total(self) -> int:
        """Bytes on all devices together."""
        return sum(needs(device) for device in self.devices)


def mib(size: int) -> str:
    """Bytes for people, in MiB or GiB."""
    return f"{size / (1 << 30):,.2f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):,.1f} MiB"


def needs(device: DeviceMemory) -> int:
    """Bytes that the plan puts on the device."""
    return device.weights + device.kv + device.compute


@dataclass(frozen=True)
class ModelInfo:
    """What a loaded model is. Counts in tokens, sizes in bytes."""

    name: str
    path: Path
    architecture: str
    quantization: str
    parameters: int
    file_bytes: int
    n_ctx: int
    n_ctx_train: int
    n_layer: int
    gpu_layers: int
    threads: int
    has_chat_template: bool


@dataclass(frozen=True)
class MemorySample:
    """Memory at one moment, in bytes. A part that this system cannot tell is None.

    `weights_mapped` is the span of the model file mapped into the process, `weights_resident` how much of it is in
    RAM now; `process` is the whole resident size of the process that runs the engine.
    """

    weights_mapped: int
    weights_resident: int | None
    kv_used: int
    kv_allocated: int
    compute: int
    process: int
    system_available: int
    system_total: int
    devices: tuple[DeviceMemory, ...] = field(default=())


@dataclass(frozen=True)
class Progress:
    """How far the prompt is evaluated, in tokens. `cached` of `total` needed no work."""

    done: int
    total: int
    cached: int


class Reply(Protocol):
    """A reply while it is made: iterate for pieces of text, then read `stats`.

    `cancel()` may be called from any thread, at any stage; iteration then ends after the piece in flight. `close()`
    ends it from the thread that iterates, and keeps what was said.
    """

    @property
    def text(self) -> str:
        """All that was said so far."""

    @property
    def stats(self) -> Stats | None:
        """What it cost; None until the iteration ended."""

    @property
    def progress(self) -> Progress | None:
        """How far the prompt is evaluated; None before that begins."""

    def __iter__(self) -> Iterator[str]: ...
    def __next__(self) -> str: ...
    def cancel(self) -> None:
        """Stop as soon as possible; safe from any thread."""

    def close(self) -> None:
        """End the iteration now and keep what was said."""


class Responder(Protocol):
    """Anything that answers a conversation: a model in this process, or one in a child process."""

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""

    def reply(self, messages: Sequence[Message], *, sampling: Sampling | None = None, max_tokens: int = 0) -> Reply:
        """Answer `messages`. A last message by `assistant` is continued. `max_tokens` 0: until the context is full.

        Raises on the first iteration: `ContextFull`, `BadTemplate`, `EngineDied`.
        """

    def memory(self) -> MemorySample:
        """Memory now. Safe to call from another thread while a reply is made."""

    def context_used(self) -> int:
        """Tokens in the KV cache now."""

    def close(self) -> None:
        """Free everything. Safe to call twice; cancels a reply that is being made."""
