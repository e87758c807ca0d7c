"""A context of llama.cpp as the options want it: for a load, and for one that only is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localllm.native import handles, spin
from localllm.runtime.adapters import Adapter, set_adapters
from localllm.runtime.options import Options


def open_context(
    model: handles.ModelHandle, options: Options, adapters: Sequence[Adapter] = (), **settings: Any
) -> handles.ContextHandle:
    """A context with these options, in which nothing may be left open, and the adapters.

    `settings` of `handles.open_context` take the place of what the options say.
    """
    spin.begin(options.threads)
    chosen: dict[str, Any] = {
        "n_ctx": options.n_ctx,
        "n_batch": options.n_batch,
        "n_ubatch": options.n_ubatch,
        "sequences": options.sequences,
        "guesses": options.guesses,
        "threads": options.threads,
        "kv_types": options.kv_types,
        "flash_attention": options.flash_attention,
    }
    context = handles.open_context(model, **{**chosen, **settings})
    set_adapters(context, adapters)
    return context
