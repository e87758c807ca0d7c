"""Models of llama.cpp opened with `Options`, in which nothing may be left open: which setting is which argument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from localllm.native import devices, handles
from localllm.runtime.options import Options


def open_model(
    path: Path, options: Options, *, simulate: bool = False, progress: Callable[[float], bool] | None = None
) -> handles.ModelHandle:
    """The weights, on the devices that the options say. Raises as `handles.open_model`.

    A device that takes no layer is not used at all: llama.cpp would copy weights to it to read prompts there, and needs
    memory for that which is not free where no layer fits.
    """
    offload = devices.offload_devices(devices.devices(options.workers)) if options.gpu_layers else []
    split = (options.split or (1.0,) * len(offload)) if offload else ()
    taking = [(device.handle, share) for device, share in zip(offload, split, strict=True) if share]
    return handles.open_model(
        path,
        gpu_layers=options.gpu_layers or 0,
        devices=[handle for handle, _ in taking],
        split=[share for _, share in taking] if options.split else (),
        cpu_moe=options.cpu_moe or 0,
        load_mode=_load_mode(options),
        simulate=simulate,
        progress=progress,
    )


def _load_mode(options: Options) -> int:
    if options.mlock:
        return handles.LOAD_MMAP_MLOCK if options.mmap else handles.LOAD_MLOCK
    return handles.LOAD_MMAP if options.mmap else handles.LOAD_READ
