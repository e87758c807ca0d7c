"""Models of llama.cpp opened with `Options`, in which nothing may be left open: which setting is which argument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from localllm.native import devices, handles
from localllm.runtime.options import Options


def open_model(
    path: Path, options: Options, *, simulate: bool = False, progress: Callable[[float], bool] | None = None
) -> handles.ModelHandle:
    """The weights, on the devices that the options say. Raises as `handles.open_model`."""
    present = devices.devices(options.workers)
    return handles.open_model(
        path,
        gpu_layers=options.gpu_layers or 0,
        devices=[device.handle for device in devices.offload_devices(present)],
        split=options.split,
        cpu_moe=options.cpu_moe or 0,
        load_mode=_load_mode(options),
        simulate=simulate,
        progress=progress,
    )


def _load_mode(options: Options) -> int:
    if options.mlock:
        return handles.LOAD_MMAP_MLOCK if options.mmap else handles.LOAD_MLOCK
    return handles.LOAD_MMAP if options.mmap else handles.LOAD_READ
