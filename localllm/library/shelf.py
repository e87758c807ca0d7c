"""The models on this machine by name: what a name stands for.

Looks at file names and at what stores say of their files, never into a model, and asks no network.
"""

from __future__ import annotations

import os
from pathlib import Path

from localllm import paths, settings
from localllm.errors import ModelNotFound
from localllm.library.stored import Stored, stored_file

# What reads the catalogue is imported where a name is looked up: a path needs none of it.


def resolve(name: str | None = None) -> Path:
    """The GGUF file that `name` stands for, as `find` finds it: the first one, of a model in several files.

    Raises:
        ModelNotFound: see `find`.
    """
    return find(name).path


def find(name: str | None = None) -> Stored:
    """The model that `name` stands for; None stands for the setting `default_model`, else for that of the catalogue.

    A name is a path; a name of the catalogue (`qwen3:0.6b`, with a quantization `qwen3:0.6b:Q8_0`, or its family alone
    when that has one size); a repo, with its quantization where several are here (`org/name-GGUF:Q4_K_M`); the name of
    a file, with or without `.gguf`; or what Ollama calls it (`llama3.2:1b`). The first place that has one wins.

    Raises:
        ModelNotFound: it stands for no model here, or for several; says the nearest names, the choices, or the command
            that fetches it.
        BadSettings: the settings have a mistake.
    """
    if name is None:
        return _default()
    path = paths.expanded(name)
    if paths.exists(path) and path.is_file():
        return stored_file("file", path.parent, path)
    from localllm.library import absent, naming

    found = _named(name)
    family = [] if found else naming.family(name)
    if len(family) == 1:
        found = _named(family[0].name)
    if not found:
        raise absent.explain(name)
    if len(found) > 1:
        raise absent.ambiguous(name, _labels_of(found))
    return found[0]


def placed(name: str | None = None) -> tuple[str, Stored]:
    """The model that `name` stands for as the place holds it that it is in, and the shortest name that stands for it.

    A path may be given of what is in a place. The kind of a file that no place lists is `file`.

    Raises:
        ModelNotFound: see `find`.
    """
    from localllm.library import naming

    model = find(name)
    wanted = {_absolute(part) for part in model.parts}
    names = {part.name for part in model.parts}
    for label, other in naming.labelled_models():
        if any(part.name in names and _absolute(part) in wanted for part in other.parts):
            return label, other
    return str(model.path), model


def _absolute(path: Path) -> Path:
    """The path without links in its folders: of a link in a folder the link itself is meant."""
    return path.parent.resolve() / path.name


def _default() -> Stored:
    from localllm.library.catalog import DEFAULT

    chosen = settings.load().settings.default_model
    if chosen is None:
        return find(DEFAULT)
    try:
        return find(chosen)
    except ModelNotFound as error:
        other = "`localllm config set default_model NAME` chooses another default."
        raise ModelNotFound(
            f"The default model of the settings: {error.message}", hint=f"{error.hint}\n{other}"
        ) from None


def knows(name: str) -> bool:
    """Whether it is a name of models, here, in the catalogue or by its looks on the hub, and not some other text."""
    from localllm.library import naming

    return bool(naming.family(name) or naming.in_catalogue(name) or naming.is_gguf_repo(name) or _named(name))


def _named(name: str) -> list[Stored]:
    """The models of this name, in the first place that has one."""
    from localllm.library import naming
    from localllm.library.places import places

    key = name.casefold().removeprefix("hf.co/")
    for place in places():
        here = [(model, naming.names_of(model)) for model in place.models()]
        for wanted, fold in ((name, str), (key, str.casefold)):
            found = [model for model, own in here if wanted in map(fold, own)]
            if found:
                return _apart(found)
    return []


def _apart(models: list[Stored]) -> list[Stored]:
    """Those of the models that are different files."""
    different: dict[str, Stored] = {}
    for model in models:
        different.setdefault(os.path.realpath(model.path), model)
    return list(different.values())


def _labels_of(models: list[Stored]) -> list[str]:
    from localllm.library import naming

    by_path = {model.path: label for label, model in naming.labelled_models()}
    return [by_path.get(model.path, str(model.path)) for model in models]
