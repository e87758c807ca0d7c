"""Convert a Hugging Face checkpoint, run it on llama.cpp's kernels, and chat with it.

    import localllm

    model = localllm.load()
    chat = model.chat(system="Answer in one sentence.")
    for piece in chat.stream("What is the capital of France?"):
        print(piece, end="", flush=True)
    print(chat.stats)

Importing the package imports none of its parts until they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from localllm.errors import (
    BadCheckpoint,
    BadGrammar,
    BadModelFile,
    BadOutput,
    BadSettings,
    BadStore,
    BadTemplate,
    BadText,
    BadWorker,
    Cancelled,
    ContextFull,
    DoesNotFit,
    DownloadFailed,
    EngineDied,
    LocalLLMError,
    MissingPackage,
    ModelNotFound,
    UnsupportedModel,
)

if TYPE_CHECKING:
    from localllm.api import convert_model, load, load_process, plan, pull, verify_model
    from localllm.runtime.model import Model
    from localllm.runtime.options import Options
    from localllm.runtime.process import ModelProcess
    from localllm.runtime.sampling import Sampling
    from localllm.runtime.session import Chat
    from localllm.runtime.types import Message, Plan, Stats

__version__ = "0.1.0"

__all__ = [
    "BadCheckpoint",
    "BadGrammar",
    "BadModelFile",
    "BadOutput",
    "BadSettings",
    "BadStore",
    "BadTemplate",
    "BadText",
    "BadWorker",
    "Cancelled",
    "Chat",
    "ContextFull",
    "DoesNotFit",
    "DownloadFailed",
    "EngineDied",
    "LocalLLMError",
    "Message",
    "MissingPackage",
    "Model",
    "ModelNotFound",
    "ModelProcess",
    "Options",
    "Plan",
    "Sampling",
    "Stats",
    "UnsupportedModel",
    "__version__",
    "convert_model",
    "load",
    "load_process",
    "plan",
    "pull",
    "verify_model",
]

_HOME = {
    "convert_model": "localllm.api",
    "load": "localllm.api",
    "load_process": "localllm.api",
    "plan": "localllm.api",
    "pull": "localllm.api",
    "verify_model": "localllm.api",
    "Model": "localllm.runtime.model",
    "ModelProcess": "localllm.runtime.process",
    "Plan": "localllm.runtime.types",
    "Chat": "localllm.runtime.session",
    "Message": "localllm.runtime.types",
    "Options": "localllm.runtime.options",
    "Sampling": "localllm.runtime.sampling",
    "Stats": "localllm.runtime.types",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
