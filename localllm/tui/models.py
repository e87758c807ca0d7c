"""The models that can be talked to: those on this machine, and those of the catalogue that could come to it.

Looks at headers and asks no network. Knows nothing of widgets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from localllm.library.catalog import load_catalog
from localllm.library.facts import facts_of
from localllm.library.naming import entry_of, labelled_models
from localllm.runtime.types import MemorySample
from localllm.tui.amounts import size


@dataclass(frozen=True)
class Choice:
    """A model by the name that commands know it by. `path` is None for one that is not here yet.

    `bytes` are those of its files, of which `arrived` are here from a download that was stopped; `needed` are about
    those that a load takes; 0 is not known. `source` are the bytes of the checkpoint that it is converted from on the
    way. `problem` says why it cannot be loaded. Nobody can chat with one that `lacks_template`.
    """

    name: str
    path: Path | None
    bytes: int
    quantization: str
    needed: int
    problem: str = ""
    arrived: int = 0
    source: int = 0
    lacks_template: bool = False

    def note(self, room: int | None) -> str:
        """Size, quantization and whether it fits in `room` bytes, in a line."""
        return _joined(self._size(), self.quantization, self.problem or self._fit(room), self._template())

    def short_note(self, room: int | None) -> str:
        """As `note`, where the quantization is told already."""
        return _joined(self._size(), self.problem or self._fit(room), self._template())

    def matches(self, words: str) -> bool:
        """Whether each of the words is in its name or quantization."""
        text = f"{self.name} {self.quantization}".casefold()
        return all(word in text for word in words.casefold().split())

    def _size(self) -> str:
        if not self.bytes:
            return ""
        if self.source and self.path is None:
            return f"about {size(self.bytes)}, converted from {size(self.source)}"
        here = f", {size(self.arrived)} here" if self.arrived and self.path is None else ""
        return f"{size(self.bytes)}{here}"

    def _template(self) -> str:
        return "no chat template" if self.lacks_template else ""

    def _fit(self, room: int | None) -> str:
        if room is None:
            return ""
        if not self.needed:
            return "does not fit" if self.bytes > room else ""
        return f"{'fits' if self.needed <= room else 'does not fit'}: about {size(self.needed)}"


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


def choices() -> list[Choice]:
    """Those on this machine first, then the rest of the catalogue, in the recommended quantization."""
    models = labelled_models()
    facts = facts_of([model for _, model in models])
    here = [
        Choice(
            name,
            model.path,
            model.size,
            fact.quantization or model.quantization,
            fact.needed,
            fact.problem,
            lacks_template=not fact.problem and not fact.has_template,
        )
        for (name, model), fact in zip(models, facts, strict=True)
    ]
    known = {entry.name for entry, _ in (entry_of(model) for _, model in models) if entry is not None}
    absent = [
        Choice(entry.name, None, entry.files[0].about_bytes, entry.files[0].quantization, entry.files[0].memory)
        for entry in load_catalog()
        if entry.name not in known
    ]
    return [*here, *absent]


def room_after(sample: MemorySample | None) -> int | None:
    """Bytes on all devices for another model once the one that is loaded is freed; None while nothing is known."""
    if sample is None:
        return None
    # Pages of a mapped file on the CPU count as available already.
    held = sum(part.kv + part.compute + (part.weights if part.kind != "cpu" else 0) for part in sample.devices)
    return held + sum(part.free for part in sample.devices)
