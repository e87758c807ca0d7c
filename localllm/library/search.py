"""What the hub has by some words: the repos that can be pulled, and how.

Knows what repos say of themselves, never what is in their files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from localllm.errors import MissingPackage
from localllm.library import filenames

try:
    from huggingface_hub import ModelInfo

    from localllm.library import asking
    from localllm.library.pulling.variants import quantization_of
except ImportError as error:
    raise MissingPackage(
        "Searching the hub needs the package huggingface_hub.", hint="pip install 'localllm[hub]'"
    ) from error

from localllm.convert import families
from localllm.convert.weights import KINDS

_LOOKED_AT = 5
"""Repos that are looked at for each that is wanted: most of what matches some words are no models of language."""

_ASKED_FOR = [
    "downloads",
    "likes",
    "gated",
    "private",
    "tags",
    "siblings",
    "safetensors",
    "gguf",
    "config",
    "lastModified",
]


@dataclass(frozen=True)
class Hit:
    """A repo that can be pulled. `kind` is `gguf` or `checkpoint`.

    `quantizations` are those in which it has GGUF files. `parameters` is the count of weights, 0 where the repo does
    not tell. `gated` says that access has to be asked for.
    """

    repo: str
    kind: str
    downloads: int
    likes: int
    licence: str
    parameters: int
    quantizations: tuple[str, ...]
    gated: bool
    changed: str

    @property
    def pull(self) -> str:
        """What to pull it by."""
        if self.kind == "checkpoint":
            return f"{self.repo} --type Q4_K_M"
        usual = "Q4_K_M" in self.quantizations or len(self.quantizations) < 2
        return self.repo if usual else f"{self.repo}:{self.quantizations[0]}"


def search(words: Sequence[str], limit: int = 20) -> list[Hit]:
    """The repos with these words in their names that hold a GGUF, or a checkpoint that can be converted; the most
    downloaded first.

    Raises:
        DownloadFailed: the hub does not answer within some seconds, or refuses; see `asking.listed`.
    """
    most = limit * _LOOKED_AT
    hits = (hit for model in _models(words, most) if (hit := _hit(model)))
    return list(itertools.islice(hits, limit))


def _models(words: Sequence[str], most: int) -> Iterator[ModelInfo]:
    """At most so many repos that match the words, the most downloaded first."""
    asked = {"search": " ".join(words), "sort": "downloads", "limit": most, "expand": _ASKED_FOR}
    for told in itertools.islice(asking.listed("/api/models", asked), most):
        yield ModelInfo(**{"siblings": None, **told})


def _hit(model: Any) -> Hit | None:
    names = [sibling.rfilename for sibling in model.siblings or []]
    models = [name for name in names if filenames.is_model(name)]
    if not models and not _can_be_converted(model, names):
        return None
    labels = (quantization_of(name) for name in sorted(models))
    told = [model.safetensors.total] if model.safetensors else []
    told += [model.gguf.get("total", 0)] if model.gguf else []
    return Hit(
        repo=model.id,
        kind="gguf" if models else "checkpoint",
        downloads=model.downloads or 0,
        likes=model.likes or 0,
        licence=next(_licences(model.tags or []), ""),
        parameters=next((int(count) for count in told if count), 0),
        quantizations=tuple(dict.fromkeys(label for label in labels if label)),
        gated=bool(model.gated),
        changed=model.last_modified.date().isoformat() if model.last_modified else "",
    )


def _can_be_converted(model: Any, names: list[str]) -> bool:
    architectures = (model.config or {}).get("architectures") or []
    known = families.known()
    return any(name in known for name in architectures) and any(kind.is_in(names) for kind in KINDS)


def _licences(tags: Sequence[str]) -> Iterator[str]:
    return (tag.partition(":")[2] for tag in tags if tag.startswith("license:"))
