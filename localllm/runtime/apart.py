"""Plans and loads a model where it is safe: in this process, or in a child process.

A child process ends alone if llama.cpp aborts over the file, or over a worker.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from localllm.runtime.engine_process import EngineProcess
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.plan import make_plan
from localllm.runtime.process import ModelProcess
from localllm.runtime.protocol import Failed, MakePlan, Planned, as_error
from localllm.runtime.remote_reply import why_ended
from localllm.runtime.types import Plan


def load(
    path: Path, options: Options | None = None, *, progress: Callable[[float], None] | None = None
) -> Model | ModelProcess:
    """Load a model where it is safe: in this process, or in a child process if it uses workers. See `Model.load`."""
    options = options or Options()
    return (ModelProcess if options.workers else Model).load(path, options, progress=progress)


def plan(path: Path, options: Options | None = None) -> Plan:
    """`make_plan` where it is safe: in this process, or in a child process if there are workers."""
    options = options or Options()
    return plan_apart(path, options) if options.workers else make_plan(path, options)


def plan_apart(path: Path, options: Options) -> Plan:
    """`make_plan` in a child process, which alone ends if llama.cpp aborts over the file or a worker.

    Raises:
        EngineDied: it did; and as `make_plan`.
    """
    engine = EngineProcess()
    try:
        event = engine.begin(0, MakePlan(str(Path(path).absolute()), options)).get()
        if isinstance(event, Planned):
            return event.plan
        raise as_error(event) if isinstance(event, Failed) else why_ended(engine, options.workers)
    finally:
        engine.close()
