"""What a person wants to know of a loaded model."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from localllm import paths
from localllm.errors import BadTemplate
from localllm.runtime.types import Message, ModelInfo

if TYPE_CHECKING:
    from localllm.native.vocab import Vocab
    from localllm.runtime.parts import Parts
    from localllm.runtime.sampling import Sampling


def describe(parts: Parts, sampling: Sampling) -> ModelInfo:
    """What there is to say of it; `sampling` is how it samples where nothing else is said."""
    plan, header = parts.plan, parts.headers[0]
    template = plan.options.chat_template or parts.handle.chat_template()
    return ModelInfo(
        name=display_name(plan.path, header.quantization, str(header.get("general.name", ""))),
        path=plan.path,
        architecture=header.architecture,
        quantization=header.quantization,
        parameters=sum(part.parameters for part in parts.headers),
        file_bytes=sum(part.file_bytes for part in parts.headers),
        n_ctx=plan.n_ctx,
        n_ctx_train=header.context_length,
        n_layer=header.n_layer,
        gpu_layers=plan.gpu_layers,
        threads=plan.options.threads,
        writes=parts.engine is not None,
        has_chat_template=bool(template),
        sampling={name: value for name, value in asdict(sampling).items() if type(value) in (int, float)},
        opens_thought=_opens_thought(template, parts.vocab) if template else "",
    )


def _opens_thought(template: str, vocab: Vocab) -> str:
    """The marker with which the template lets an answer begin. Tried, for many write it only under a condition."""
    from localllm.chat_template import ChatTemplate
    from localllm.runtime.template import render
    from localllm.runtime.thinking import opened_by

    try:
        return opened_by(render(ChatTemplate(template, vocab.template_tokens()), [Message("user", "Hi")]))
    except BadTemplate:
        return ""  # whoever asks for an answer is told


def display_name(path: Path, quantization: str, called: str = "") -> str:
    """What a person calls the model: the file's name without its type and part.

    What it is `called` in its header (`general.name`) is often a codename, and serves where a store names its files by
    their hashes.
    """
    if paths.is_hash(path):
        return called or path.name
    part = re.compile(r"-\d{5}-of-\d{5}$")
    return re.sub(rf"[-._]{re.escape(quantization)}$", "", part.sub("", path.stem), flags=re.IGNORECASE)
