"""Loading what a plan decided: the model's weights, and what the load really took."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from localllm.errors import BadModelFile
from localllm.native import devices, handles, ledger, log, mapped
from localllm.runtime import memory
from localllm.runtime.adapters import Adapter
from localllm.runtime.opening import open_model
from localllm.runtime.simulate import layers_by_device
from localllm.runtime.types import Plan, mib, needs


class ModelFiles:
    """The files of a loaded model: mapped into memory, so that who writes to them changes the model."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._loaded = {path: path.stat() for path in paths}

    def __str__(self) -> str:
        """Another text for other contents."""
        return str([(found.st_size, found.st_mtime_ns) for found in self._loaded.values()])

    def check(self) -> None:
        """See that they are as they were. One that was replaced or removed is: the mapping keeps what it had.

        Raises:
            BadModelFile: somebody wrote to one.
        """
        for path, before in self._loaded.items():
            try:
                now = path.stat()
            except OSError:
                continue
            same_file = (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino)
            if same_file and (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise BadModelFile(
                    f"{path} was written to while it was loaded: what the model would say is not to be trusted.",
                    hint="Load it again.",
                )


def open_weights(
    plan: Plan, files: Sequence[Path], progress: Callable[[float], bool] | None
) -> tuple[handles.ModelHandle, list[str]]:
    """The model of a plan, which is in `files`, and the log of its load. Raises as `handles.open_model`."""
    opened, lines = read_weights(plan, progress)
    let_go_of_copied(plan, files, lines)
    return opened, lines


def read_weights(plan: Plan, progress: Callable[[float], bool] | None) -> tuple[handles.ModelHandle, list[str]]:
    """The same, with all pages of the files in memory. Raises as `handles.open_model`."""
    with log.captured() as lines:
        return open_model(plan.path, plan.options, progress=progress), lines


def let_go_of_copied(plan: Plan, files: Sequence[Path], lines: list[str]) -> None:
    """Let the pages of `files` go if weights were copied out of them, by the log of the load."""
    if plan.options.mmap and not plan.options.mlock and copied_bytes(lines):
        mapped.let_go(files)


def copied_bytes(lines: list[str]) -> int:
    """How much was copied out of the mapped file, to a GPU or into an order that the processor likes better: about,
    from the log of the load.
    """
    sizes = re.findall(r"^\S+: +(\S+) model buffer size = +([0-9.]+) MiB", "".join(lines), re.MULTILINE)
    return round(sum(float(size) for buffer, size in sizes if not buffer.endswith("_Mapped")) * (1 << 20))


def as_loaded(plan: Plan, context: handles.ContextHandle, lines: list[str], adapters: Sequence[Adapter] = ()) -> Plan:
    """The plan with what the load really took, a note where that is not what was planned, and one on each adapter.

    `lines` are the log of the load.

    The CPU's weights stay as planned, which is exact as well: what the ledger counts for a mapped file is a span of it,
    and that covers tensors which were copied out of it too.
    """
    options = replace(plan.options, n_ctx=context.n_ctx)
    plan = replace(plan, notes=(*plan.notes, *(adapter.note for adapter in adapters)))
    if not ledger.supported():
        return replace(plan, options=options)
    taken = memory.by_device(ledger.read(context.pointer), layers_by_device(lines), devices.devices(options.workers))
    parts = tuple(
        replace(real, weights=planned.weights) if real.kind == "cpu" and options.mmap else real
        for planned, real in zip(plan.devices, taken, strict=True)
    )
    different = [pair for pair in zip(plan.devices, parts, strict=True) if needs(pair[0]) != needs(pair[1])]
    notes = [
        f"{real.name} took {mib(needs(real))}; {mib(needs(planned))} were planned."
        for planned, real in different
        if plan.exact
    ]
    return replace(plan, options=options, devices=parts, exact=True, estimate="", notes=(*plan.notes, *notes))
