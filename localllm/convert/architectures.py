"""Which family converts a checkpoint, and what to say of one that none does: what is near, what llama.cpp could run.

Asks the installed llama.cpp itself, with files that hold nothing but the name of an architecture.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from localllm.convert import families
from localllm.convert.config import Config
from localllm.convert.families import Family
from localllm.convert.header import lay_out, text
from localllm.convert.scratch import skeleton
from localllm.errors import BadModelFile, UnsupportedModel
from localllm.native import architectures, handles

_ENDINGS = re.compile(r"(For[A-Z]\w*|LMHead(Model)?|Model)$")


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
    named, hint = "missing", f"Known: {', '.join(sorted(known))}."
    if config.architecture:
        named, hint = repr(config.architecture), f"{_what_is_near(config, known)}\n{_what_could_run(config)}"
    raise UnsupportedModel(f"The architecture in config.json is {named}; it is not converted yet.", hint=hint)


def _what_is_near(config: Config, known: Mapping[str, Family]) -> str:
    near = _nearest(config.architecture, known)
    if near:
        return f"Nearest known: {', '.join(near)}."
    return f"None that is known is near: {', '.join(sorted({family.arch for family in known.values()}))}."


def _nearest(architecture: str, known: Iterable[str]) -> list[str]:
    """The names of the three families with the nearest names. What a model is for, which follows, is not compared."""
    stems: dict[str, list[str]] = {}
    for name in sorted(known):
        stems.setdefault(_stem(name), []).append(name)
    near = difflib.get_close_matches(_stem(architecture), stems, n=3, cutoff=0.6)
    return [name for stem in near for name in stems[stem]]


def _stem(architecture: str) -> str:
    return _plain(_ENDINGS.sub("", architecture))


def _what_could_run(config: Config) -> str:
    """Whether the installed llama.cpp has a graph of that name, or what it has that is near."""
    model_type = str(config.get("model_type", "")).lower()
    guesses = (model_type, model_type.replace("_", "-"), re.sub(r"_v(?=\d)", "", model_type))
    wanted = {_stem(config.architecture), *map(_plain, guesses)} - {""}
    runnable = [name for name in dict.fromkeys((*sorted(wanted), *architectures.names())) if runs(name)]
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


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
