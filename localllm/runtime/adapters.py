"""LoRA adapters beside a loaded model: checked against it, loaded, and set on its contexts with their scales."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localllm.errors import BadModelFile, UnsupportedModel
from localllm.gguf_file import read_header
from localllm.native import handles, lib, log
from localllm.runtime.types import mib


@dataclass(frozen=True)
class Adapter:
    """A loaded adapter, which is freed with its model. `file_bytes` is about what it takes in memory."""

    path: Path
    scale: float
    file_bytes: int
    pointer: Any

    @property
    def identity(self) -> str:
        """What tells it from any other."""
        stat = self.path.stat()
        return f"{self.path.resolve()} {stat.st_size} {stat.st_mtime_ns} {self.scale}"

    @property
    def note(self) -> str:
        """What a person should know of it."""
        return f"The adapter {self.path.name} counts {self.scale:g} and takes {mib(self.file_bytes)} beside the plan."


def load_adapters(
    model: handles.ModelHandle, architecture: str, wanted: tuple[tuple[str, float], ...]
) -> list[Adapter]:
    """Load (path, scale) for a model of that `architecture`.

    Raises:
        ModelNotFound, BadModelFile: there is no such file, or it holds no adapter.
        UnsupportedModel: it was made for another model.
    """
    return [_load(model, architecture, Path(path), scale) for path, scale in wanted]


def _load(model: handles.ModelHandle, architecture: str, path: Path, scale: float) -> Adapter:
    header = read_header(path)
    if header.get("general.type") != "adapter" or header.get("adapter.type") != "lora":
        raise BadModelFile(
            f"{path} holds no LoRA adapter.",
            hint="`localllm convert BASE --lora ADAPTER` makes one of an adapter of PEFT.",
        )
    if header.architecture != architecture:
        raise UnsupportedModel(
            f"{path} is an adapter for {header.architecture}, and {model.path.name} is {architecture}.",
            hint="Use the adapter with the model that it was trained on.",
        )
    lib.listen()
    pointer = lib.llama().llama_adapter_lora_init(model.pointer, os.fsencode(path))
    if not pointer:
        raise UnsupportedModel(
            f"{path} does not fit {model.path.name}: {'; '.join(log.recent_problems()).strip() or 'no reason given'}",
            hint="Use the adapter with the model that it was trained on.",
        )
    return Adapter(path, scale, header.file_bytes, pointer)


def set_adapters(context: handles.ContextHandle, adapters: Sequence[Adapter]) -> None:
    """Let everything that `context` computes go through the adapters."""
    if adapters:
        pointers = (type(adapters[0].pointer) * len(adapters))(*(adapter.pointer for adapter in adapters))
        scales = (ctypes.c_float * len(adapters))(*(adapter.scale for adapter in adapters))
        lib.llama().llama_set_adapters_lora(context.pointer, pointers, len(adapters), scales)
