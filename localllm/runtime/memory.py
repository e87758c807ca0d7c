"""Memory as it is now: how much of the mapped weights is in RAM, how full the KV cache is, what the system has left."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from localllm.native import devices, machine
from localllm.native.devices import Device
from localllm.native.ledger import BufferUse
from localllm.runtime.types import DeviceMemory, MemorySample

REST = 300
"""How many times as long as a look at the mapped weights took nobody looks again: the kernel walks over all pages."""


class Mapped:
    """The weights of `files`, mapped into this process: how much there is, and how much of it is in RAM."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._known: tuple[int, int | None] = (0, None)
        self._next = 0.0

    def weights(self) -> tuple[int, int | None]:
        """As `mapped_weights`; some seconds old where a look takes long."""
        began = time.monotonic()
        if began >= self._next:
            self._known = mapped_weights(self._files)
            ended = time.monotonic()
            self._next = ended + REST * (ended - began)
        return self._known


def sample(
    weights: Mapped, parts: Sequence[DeviceMemory], *, used_tokens: int, n_ctx: int, copied: int = 0
) -> MemorySample:
    """One sample for the model with these `weights`, loaded in this process, that took `parts`.

    `copied` bytes of weights were copied out of the files.

    `used_tokens` of the `n_ctx` cells of the KV cache are in use; the used bytes are that share of what is allocated.
    """
    import psutil  # takes as long to import as all else that a load needs before the weights are read

    kv = sum(part.kv for part in parts)
    mapped, resident = weights.weights()
    available, total = machine.system_memory()
    now = {device.name: device for device in devices.devices()}

    def refreshed(part: DeviceMemory) -> DeviceMemory:
        # A worker answers only after what it computes: its numbers stay those of when the model was loaded.
        return replace(part, free=now[part.name].free, total=now[part.name].total) if part.name in now else part

    return MemorySample(
        weights_mapped=mapped,
        weights_resident=resident,
        kv_used=kv * used_tokens // n_ctx if n_ctx else 0,
        kv_allocated=kv,
        compute=sum(part.compute for part in parts),
        process=psutil.Process().memory_info().rss,
        system_available=available,
        system_total=total,
        devices=tuple(refreshed(part) for part in parts),
        weights_copied=copied,
    )


def by_device(uses: Sequence[BufferUse], layers: dict[str, int], present: Sequence[Device]) -> tuple[DeviceMemory, ...]:
    """What `uses` add up to on every device that is `present`. `layers` counts layers by device name."""
    return tuple(
        DeviceMemory(
            name=device.name,
            kind=device.kind,
            weights=sum(use.weights for use in uses if use.device == device.name),
            kv=sum(use.kv for use in uses if use.device == device.name),
            compute=sum(use.compute for use in uses if use.device == device.name),
            free=device.free,
            total=device.total,
            layers=layers.get(device.name, 0),
            worker=device.description if device.kind == "worker" else "",
        )
        for device in present
    )


def mapped_weights(files: Sequence[Path], smaps: Path = Path("/proc/self/smaps")) -> tuple[int, int | None]:
    """(mapped, resident) bytes of the model's files in this process; resident is None where the system cannot tell.

    Source: `/proc/PID/smaps`, proc(5). The mapping is read-only and shared with every process that maps the same file.
    """
    try:
        with smaps.open("rb") as stream:
            return _read_smaps(stream.read(), {os.fsencode(file.resolve()) for file in files})
    except OSError:
        return 0, None


def _read_smaps(text: bytes, paths: set[bytes]) -> tuple[int, int]:
    mapped = resident = 0
    inside = False
    for line in text.splitlines():
        if line[:1].islower() or line[:1].isdigit():
            # A mapping: address, permissions, offset, device, inode, path.
            fields = line.split(None, 5)
            inside = len(fields) == 6 and fields[5] in paths
            if inside:
                start, end = fields[0].split(b"-")
                mapped += int(end, 16) - int(start, 16)
        elif inside and line.startswith(b"Rss:"):
            resident += int(line.split()[1]) * 1024
    return mapped, resident
