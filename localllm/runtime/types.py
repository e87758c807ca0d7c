"""The words of the runtime as data: what goes in, what comes out, and what it takes.

Knows nothing of llama.cpp. Everything here survives a trip through JSON, so the same values describe an engine in this
process and one in a child process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from localllm import paths
from localllm.runtime.options import Options

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


UNCOUNTED = 192 << 20
"""Bytes that kernels of a GPU and their libraries allocate when they first compute, which llama.cpp counts nowhere and
whose lack ends the process: 68 and 168 MiB were seen with CUDA, docs/experiments.md."""


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
    `advice` says what would fit if this does not, `more_weights` why weights take more than they do in the file.
    """

    path: Path
    options: Options
    devices: tuple[DeviceMemory, ...]
    exact: bool
    estimate: str = ""
    notes: tuple[str, ...] = ()
    advice: str = ""
    more_weights: str = ""

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
        return all(lacks(device) <= 0 for device in self.devices)

    def fits_instead_of(self, loaded: Plan) -> bool:
        """Whether every device has room for its part once `loaded` is freed, which is in memory now."""
        freed = {part.name: part.kv + part.compute + uncounted(part) for part in loaded.devices}
        for part in loaded.devices:
            # Pages of a mapped file count as available already.
            if part.kind != "cpu" or not loaded.options.mmap:
                freed[part.name] += part.weights
        return all(lacks(device) <= freed.get(device.name, 0) for device in self.devices)

    def fits_beside(self, loaded: Plan) -> bool:
        """Whether every device has room for its part while `loaded` stays, which is in memory now."""
        # Pages of its mapped file count as available, and a model runs well only while they stay.
        kept = {part.name: part.weights for part in loaded.devices if part.kind == "cpu" and loaded.options.mmap}
        return all(lacks(device) + kept.get(device.name, 0) <= 0 for device in self.devices)

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


def uncounted(device: DeviceMemory) -> int:
    """Bytes that have to be free on the device beside what the plan puts there."""
    return UNCOUNTED if device.kind == "gpu" and needs(device) else 0


def lacks(device: DeviceMemory) -> int:
    """Bytes that the device has too few for the plan; negative is what it has left."""
    return needs(device) + uncounted(device) - device.free


@dataclass(frozen=True)
class ModelInfo:
    """What a loaded model is. Counts in tokens, sizes in bytes.

    `opens_thought` is the marker inside of which the chat template lets each answer begin, such as `<think>`. `writes`
    is False for one that only embeds or ranks. `sampling` are the numbers among the fields of `Sampling` that it uses
    where nothing else is said.
    """

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
    opens_thought: str = ""
    writes: bool = True
    sampling: Mapping[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What messages call it: its file, or its name where a store names files by their hashes."""
        return self.name if paths.is_hash(self.path) else self.path.name


@dataclass(frozen=True)
class MemorySample:
    """Memory at one moment, in bytes. A part that this system cannot tell is None.

    `weights_mapped` is the span of the model file mapped into the process, `weights_resident` how much of it is in
    RAM now; `weights_copied` were copied out of it when the model was loaded, to a GPU or into an order that the
    processor likes better, so that their pages need not stay. What is copied can take more than it does in the file,
    and some of the file may be in use both ways: `weights` is what the plan calls so. `process` is the whole resident
    size of the process that runs the engine. `states` are conversations that had to leave the KV cache for RAM, within
    the process, and `snapshots` those on disk that this model can take up.
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
    weights_copied: int = 0
    states: int = 0
    snapshots: int = 0

    @property
    def weights(self) -> int:
        """Bytes of weights on all devices: copies, and what is used where it is mapped."""
        return sum(device.weights for device in self.devices)

    @property
    def weights_in_place(self) -> int:
        """Bytes of weights that are used where the file is mapped."""
        return max(0, self.weights - self.weights_copied)

    @property
    def weights_held(self) -> int:
        """About the bytes of weights that are in memory now; pages of what was copied may be in RAM as well."""
        mapped = self.weights_mapped > 0 and self.weights_resident is not None
        in_place = min(self.weights_in_place, self.weights_resident or 0) if mapped else self.weights_in_place
        return self.weights - self.weights_in_place + in_place


@dataclass(frozen=True)
class Forecast:
    """What an answer to a conversation would begin with, in tokens: the prompt, and how much of it is computed already.

    `ends` says for each message about how many tokens of the prompt there are up to its end; 0 for one
    that is not sent.
    """

    prompt_tokens: int
    cached_tokens: int
    ends: tuple[int, ...]

    @property
    def evaluated_tokens(self) -> int:
        """Tokens that have to be computed before the first word."""
        return self.prompt_tokens - self.cached_tokens


@dataclass(frozen=True)
class Progress:
    """How far the prompt is evaluated, in tokens. `cached` of `total` needed no work."""

    done: int
    total: int
    cached: int
