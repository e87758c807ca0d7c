"""How a model is loaded: the engine flags of the command line as data. Knows nothing of llama.cpp but its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from localllm.native.rpc import parse_endpoint
from localllm.runtime.draft import MOST

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

    `lora` are LoRA adapters, each a GGUF and the scale with which it counts. `recommended` are fields of `Sampling`,
    with the values for a file that says nothing of its own. `chat_template` is used in place of the file's.

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
    recommended: tuple[tuple[str, float], ...] = ()
    chat_template: str = ""

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
    recommended: tuple[tuple[str, float], ...]
    chat_template: str
