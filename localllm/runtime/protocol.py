"""The messages between a program and the child process that runs its engine: one JSON object a line.

Typed dataclasses on both sides; an error crosses as its name, text and hint and comes out as itself.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from localllm.errors import ERRORS, EngineDied, LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import (
    DeviceMemory,
    Forecast,
    Logprob,
    MemorySample,
    Message,
    ModelInfo,
    Plan,
    Progress,
    Stats,
    TokenLogprob,
)

if TYPE_CHECKING:  # numpy takes time to import
    import numpy as np
    from numpy.typing import NDArray

L = TypeVar("L", bound=Logprob)

_MISTAKES: dict[str, type[Exception]] = {"ValueError": ValueError, "TypeError": TypeError}


@dataclass(frozen=True)
class Load:
    """Load a model; answered by `Loading` events, then `Loaded` or `Failed`."""

    path: str
    options: Options


@dataclass(frozen=True)
class Generate:
    """Answer `messages`, or continue `prompt` as it stands, or fill the `gap` between two texts; answered by events and
    then `Finished` or `Failed`. With `anew` a prompt of `messages` is computed as a whole. Pieces that come within
    `gather_s` seconds are told as one, but for the first."""

    request: int
    messages: tuple[Message, ...]
    prompt: str | None
    sampling: Sampling
    max_tokens: int
    gap: tuple[str, str] | None = None
    anew: bool = False
    gather_s: float = 0.0


@dataclass(frozen=True)
class Compute:
    """Call a `method` of the model that only reads, one of `READING`; answered by `Computed` or `Failed`."""

    request: int
    method: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Cancel:
    """Stop the reply to `request`, or the load if `request` is 0."""

    request: int


@dataclass(frozen=True)
class AskMemory:
    """Ask for a `Memory`."""


@dataclass(frozen=True)
class Foresee:
    """Ask what an answer to `messages` would begin with; answered by `Foreseen` or `Failed`."""

    request: int
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class MakePlan:
    """Plan loading a model; answered by `Planned` or `Failed`."""

    path: str
    options: Options
    request: int = 0


@dataclass(frozen=True)
class Planned:
    """The plan."""

    plan: Plan
    request: int = 0


@dataclass(frozen=True)
class Foreseen:
    """What an answer would begin with."""

    request: int
    forecast: Forecast


@dataclass(frozen=True)
class Loading:
    """How far the load is, 0…1."""

    fraction: float


@dataclass(frozen=True)
class Loaded:
    """The model is ready."""

    info: ModelInfo
    plan: Plan


@dataclass(frozen=True)
class Prefill:
    """How far the prompt of `request` is evaluated."""

    request: int
    progress: Progress


@dataclass(frozen=True)
class Piece:
    """Text of the reply to `request`, and the tokens that came with it if it tells log-probabilities.

    `count` is how many pieces the model said it in.
    """

    request: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    count: int = 1


@dataclass(frozen=True)
class Finished:
    """The reply to `request` ended. `sampling` is what was used; `context_used` in tokens."""

    request: int
    stats: Stats
    sampling: Sampling
    context_used: int


@dataclass(frozen=True)
class Computed:
    """What a `Compute` gave: token ids, or float32 numbers as their `shape` and their bytes in base64."""

    request: int
    value: list[int] | str
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Memory:
    """Memory of the child process, and the tokens in its KV cache."""

    sample: MemorySample
    context_used: int


@dataclass(frozen=True)
class Failed:
    """An error while loading or planning (`request` 0) or answering."""

    request: int
    error: str
    message: str
    hint: str


Command = Load | MakePlan | Generate | Compute | Foresee | Cancel | AskMemory
Event = Planned | Loading | Loaded | Prefill | Piece | Finished | Computed | Foreseen | Memory | Failed

READING = ("embed", "rerank", "logits", "tokenize")
"""The methods of a model that a `Compute` may call."""

_COMMANDS: dict[str, type[Command]] = {
    kind.__name__: kind for kind in (Load, MakePlan, Generate, Compute, Foresee, Cancel, AskMemory)
}
_EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (Planned, Loading, Loaded, Prefill, Piece, Finished, Computed, Foreseen, Memory, Failed)
}


def encode(message: Command | Event) -> bytes:
    """One line of UTF-8 JSON, newline included."""
    body = _ENCODER.encode({"kind": type(message).__name__, **vars(message)})
    return body.encode("utf-8", "surrogatepass") + b"\n"


def _plain(value: Any) -> Any:
    return vars(value) if is_dataclass(value) else str(value)


# Made once: `json.dumps` makes one for each message, and `asdict` copies all that is in it (5.1 instead of 1.7 µs).
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=_plain)


def decode_command(line: bytes) -> Command:
    """The command of one line; `KeyError` or `ValueError` if it holds none."""
    kind, fields = _decode(line)
    return _COMMANDS[kind](**fields)


def decode_event(line: bytes) -> Event:
    """The event of one line; `KeyError` or `ValueError` if it holds none."""
    kind, fields = _decode(line)
    return _EVENTS[kind](**fields)


def _decode(line: bytes) -> tuple[str, dict[str, Any]]:
    fields = json.loads(line.decode("utf-8", "surrogatepass"))
    kind = fields.pop("kind")
    return kind, {name: _rebuilt(name, value) for name, value in fields.items()}


def _rebuilt(name: str, value: Any) -> Any:
    """Nested dataclasses by the name of the field that holds them."""
    if name == "messages":
        return tuple(Message(**item) for item in value)
    if name == "logprobs":
        return tuple(
            _logprob(TokenLogprob, {**one, "top": tuple(_logprob(Logprob, other) for other in one["top"])})
            for one in value
        )
    if name in ("notes", "gap", "shape"):
        return None if value is None else tuple(value)
    if name == "info":
        return ModelInfo(**{**value, "path": Path(value["path"])})
    if name == "options":
        return _options(value)
    if name == "forecast":
        return Forecast(**{**value, "ends": tuple(value["ends"])})
    if name == "plan":
        parts = tuple(DeviceMemory(**item) for item in value["devices"])
        known = {"path": Path(value["path"]), "options": _options(value["options"]), "devices": parts}
        return Plan(**{**value, **known, "notes": tuple(value["notes"])})
    if name == "sample":
        return MemorySample(**{**value, "devices": tuple(DeviceMemory(**item) for item in value["devices"])})
    simple = {"sampling": Sampling, "stats": Stats, "progress": Progress}
    return simple[name](**value) if name in simple else value


def _options(fields: dict[str, Any]) -> Options:
    sequences = {"workers": tuple(fields["workers"]), "split": tuple(fields["split"])}
    pairs = {name: tuple((key, value) for key, value in fields[name]) for name in ("lora", "recommended")}
    return Options(**{**fields, **sequences, **pairs})


def _logprob(kind: type[L], fields: dict[str, Any]) -> L:
    return kind(**{**fields, "bytes": tuple(fields["bytes"])})


def computed(request: int, value: NDArray[np.float32] | list[int]) -> Computed:
    """What a method of `READING` gave, as an event."""
    if isinstance(value, list):
        return Computed(request, value)
    return Computed(request, base64.b64encode(value.astype("<f4").tobytes()).decode(), value.shape)


def as_array(event: Computed) -> NDArray[np.float32]:
    """The numbers that an event carries."""
    import numpy as np

    numbers = np.frombuffer(base64.b64decode(str(event.value)), "<f4")
    array: NDArray[np.float32] = numbers.reshape(event.shape or ()).copy()
    return array


def failure(request: int, error: BaseException) -> Failed:
    """`error` as an event; what is not from the tree becomes `EngineDied`, but some are the caller's."""
    if isinstance(error, LocalLLMError):
        return Failed(request, type(error).__name__, error.message, error.hint)
    if type(error) in _MISTAKES.values():
        return Failed(request, type(error).__name__, str(error), "")
    return Failed(request, EngineDied.__name__, f"The engine failed: {type(error).__name__}: {error}", "")


def as_error(event: Failed) -> Exception:
    """The error that an event carries."""
    if event.error in _MISTAKES:
        return _MISTAKES[event.error](event.message)
    return ERRORS.get(event.error, EngineDied)(event.message, hint=event.hint)
