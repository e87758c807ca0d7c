"""The settings of a person: every key with its kind, its meaning and its default.

`tools/settings_page.py` makes docs/settings.md of this. Knows no file.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from localllm.settings import kinds
from localllm.settings.kinds import Kind

GROUPS = {
    "models": "Which models there are, in every command and in Python.",
    "engine": "How a model is loaded by the commands that load one. Flags of the same names win.",
    "sampling": "How tokens are picked by `run` and `chat`. Flags of the same names win. A key that is not set is left "
    "to the model file, then to what the catalogue says that its makers recommend, else it is llama.cpp's default.",
    "app": "The terminal app.",
}
"""The groups in which the keys are listed, and what to say of each."""


@dataclass(frozen=True)
class Key:
    """One setting. `otherwise` says what counts where it is not set."""

    name: str
    kind: Kind
    meaning: str
    otherwise: str
    group: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"LOCALLLM_{self.name.upper()}"


def _key(group: str, kind: Kind, meaning: str, otherwise: str) -> Any:
    return field(default=None, metadata={"group": group, "kind": kind, "meaning": meaning, "otherwise": otherwise})


@dataclass(frozen=True)
class UserSettings:
    """The settings as programs use them, sizes in bytes. None: not set, or `auto`."""

    default_model: str | None = _key("models", kinds.TEXT, "the model that is used when none is named", "smollm2:135m")
    models: tuple[Path, ...] | None = _key(
        "models",
        kinds.FOLDERS,
        "folders of GGUF files, searched first; what is fetched from an address goes into the first",
        "none",
    )
    ctx: int | None = _key("engine", kinds.whole(0, kinds.MOST_TOKENS), "context in tokens; 0: chosen", "0")
    threads: int | None = _key("engine", kinds.whole(0, kinds.MAX_THREADS), "CPU threads; 0: chosen", "0")
    gpu_layers: int | None = _key(
        "engine",
        kinds.auto_or(kinds.whole(0, kinds.MOST_TOKENS)),
        "layers to offload to the GPU; auto: as many as fit",
        "auto",
    )
    kv_type: str | None = _key("engine", kinds.KV_TYPE, "type of the KV cache, or of K and V apart", "auto")
    kv_ram: int | None = _key("engine", kinds.SIZE, "RAM for conversations that have to leave the KV cache", "512MiB")
    kv_disk: int | None = _key(
        "engine",
        kinds.SIZE,
        "room on disk for what was computed of conversations",
        "2GiB in the app, 0 elsewhere",
    )
    window: str | None = _key("engine", kinds.choice(*kinds.WINDOWS), "what happens when the context is full", "stop")
    flash_attention: str | None = _key(
        "engine", kinds.choice("auto", "on", "off"), "flash attention; auto: llama.cpp decides", "auto"
    )
    temperature: float | None = _key(
        "sampling", kinds.number(0, 1e6), "above 1 bolder, below 1 more sober, 0 greedy", "0.8"
    )
    top_k: int | None = _key(
        "sampling", kinds.whole(0, kinds.MOST_TOKENS), "only so many of the likeliest tokens; 0: off", "40"
    )
    top_p: float | None = _key(
        "sampling", kinds.number(0, 1), "only the likeliest tokens that sum to this; 1: off", "0.95"
    )
    min_p: float | None = _key(
        "sampling", kinds.number(0, 1), "only tokens this many times as likely as the likeliest; 0: off", "0.05"
    )
    repeat_penalty: float | None = _key(
        "sampling", kinds.number(1e-6, 1e6), "divides the logits of tokens that occurred; 1: off", "1"
    )
    presence_penalty: float | None = _key(
        "sampling", kinds.number(-1e6, 1e6), "taken from the logits of tokens that occurred; 0: off", "0"
    )
    frequency_penalty: float | None = _key(
        "sampling", kinds.number(-1e6, 1e6), "the same, for each time that they occurred; 0: off", "0"
    )
    repeat_last_n: int | None = _key(
        "sampling", kinds.whole(-1, kinds.MOST_TOKENS), "how many tokens these look back; -1: the context", "64"
    )
    seed: int | None = _key(
        "sampling", kinds.whole(0, kinds.LARGEST_SEED), "the same seed gives the same text", "drawn"
    )
    theme: str | None = _key("app", kinds.TEXT, "the colours; Ctrl+P in the app lists them", "textual-dark")
    animation: Literal["full", "basic", "none"] | None = _key(
        "app", kinds.choice("full", "basic", "none"), "how much moves", "full"
    )
    chats_pane: Literal["shown", "hidden"] | None = _key(
        "app",
        kinds.choice("shown", "hidden"),
        "the list of chats, as F3 left it; shown is from 74 columns on",
        "shown from 132 columns on",
    )
    memory_pane: Literal["shown", "hidden"] | None = _key(
        "app",
        kinds.choice("shown", "hidden"),
        "the memory panel, as F2 left it; shown is from 74 columns on",
        "shown from 92 columns on",
    )
    titles: Literal["words", "model"] | None = _key(
        "app",
        kinds.choice("words", "model"),
        "what names a chat: its first words, or the model after its first reply, with some twenty tokens",
        "words",
    )


KEYS = {entry.name: Key(name=entry.name, **entry.metadata) for entry in dataclasses.fields(UserSettings)}
"""Every key by its name, in the order in which they are listed."""
