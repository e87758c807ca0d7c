"""What is on this machine, for people and programs: each model with its name, place, facts, last use, and room."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localllm.library.facts import Facts, facts_of
from localllm.library.naming import labelled_models
from localllm.library.stored import Stored


@dataclass(frozen=True)
class Row:
    """One model. `name` stands for it in every command; `used` are seconds since 1970 of its last load, 0 if unknown.

    `fits` is a quick estimate of whether it fits in the memory that is free now; None where it cannot be estimated.
    """

    name: str
    model: Stored
    facts: Facts
    used: int
    fits: bool | None


def inventory(words: Sequence[str] = (), progress: Callable[[int, int], None] | None = None) -> list[Row]:
    """Every model on this machine in the order in which names are looked for; only those with all `words` in the name.

    `progress` hears how many of the headers that have to be read are done.
    """
    from localllm.runtime import last_used

    chosen = chosen_models(words)
    facts = facts_of([model for _, model in chosen], progress)
    used = last_used.read()
    free = free_memory() if chosen else 0
    return [
        Row(name, model, fact, used.get(os.path.realpath(model.path), 0), fact.needed <= free if fact.needed else None)
        for (name, model), fact in zip(chosen, facts, strict=True)
    ]


def chosen_models(words: Sequence[str] = ()) -> list[tuple[str, Stored]]:
    """The models on this machine with their names, place by place; only those with all `words` in the name."""
    return [(name, model) for name, model in labelled_models() if _has(words, name, model)]


def free_memory() -> int:
    """Bytes that are free on the processor and on the devices that take layers."""
    from localllm.native import devices

    present = devices.devices()
    gpus = {device.name for device in devices.offload_devices(present) if device.kind != "igpu"}
    return sum(device.free for device in present if device.kind == "cpu" or device.name in gpus)


def bytes_on_disk(models: Sequence[Stored]) -> int:
    """The bytes of all files of the models; what several of them share counts once."""
    sizes: dict[tuple[int, int], int] = {}
    for model in models:
        for part in model.parts:
            try:
                state = part.stat()
            except OSError:  # it went away meanwhile
                continue
            sizes[state.st_dev, state.st_ino] = state.st_size
    return sum(sizes.values())


def _has(words: Sequence[str], name: str, model: Stored) -> bool:
    text = f"{name} {model.repo} {model.file}".casefold()
    return all(word.casefold() in text for word in words)
