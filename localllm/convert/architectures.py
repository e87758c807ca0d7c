"""Which family converts a checkpoint, and what to say of one that none does: what is near, what llama.cpp could run.

Asks the installed llama.cpp itself, with files that hold nothing but the name of an architecture.
"""

from __future__ import annotations

import difflib
import re

from localllm.convert import families
from localllm.convert.config import Config
from localllm.convert.families import Family
from localllm.convert.header import lay_out, text
from localllm.convert.scratch import skeleton
from localllm.errors import BadModelFile, UnsupportedModel
from localllm.native import handles

_ENDINGS = re.compile(r"(ForCausalLM|ForConditionalGeneration|ForMaskedLM|LMHeadModel|LMHead|Model)$")


def find(config: Config) -> Family:
    """The family of a checkpoint.

    Raises:
        UnsupportedModel: none converts its architecture; says the nearest that are converted, and what the installed
            llama.cpp could run.
    """
    known = families.known()
    family = known.get(config.architecture)
    if family is not None:
        return family
    near = difflib.get_close_matches(config.architecture, known, n=3, cutoff=0.6)
    named = repr(config.architecture) if config.architecture else "missing"
    hint = f"{'Nearest known' if near else 'Known'}: {', '.join(near or sorted(known))}."
    raise UnsupportedModel(
        f"The architecture in config.json is {named}; it is not converted yet.",
        hint=f"{hint}\n{_what_could_run(config)}" if config.architecture else hint,
    )


def _what_could_run(config: Config) -> str:
    """Whether the installed llama.cpp has a graph of that name, or what it has that is near."""
    wanted = {_plain(_ENDINGS.sub("", config.architecture)), _plain(str(config.get("model_type", "")))} - {""}
    runnable = [name for name in _names() if runs(name)]
    same = [name for name in runnable if _plain(name) in wanted]
    if same:
        return f"The installed llama.cpp could run it as {same[0]!r}: a GGUF made elsewhere would work here."
    near = [name for word in sorted(wanted) for name in difflib.get_close_matches(word, runnable, n=2, cutoff=0.7)]
    nearest = f"; it has {', '.join(dict.fromkeys(near))}" if near else ""
    return f"The installed llama.cpp has no architecture of that name{nearest}."


def runs(architecture: str) -> bool:
    """Whether the installed llama.cpp knows an architecture of this name. Takes some milliseconds."""
    try:
        layout = lay_out({"general.architecture": text(architecture)}, [])
        with skeleton(layout) as path, handles.open_model(path, vocab_only=True):
            return True
    except UnsupportedModel:
        return False
    except BadModelFile:
        return True  # the name passed, and then the file had nothing else


def _names() -> list[str]:
    """The architectures that the `gguf` package lists."""
    import gguf

    return sorted(set(gguf.MODEL_ARCH_NAMES.values()))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
