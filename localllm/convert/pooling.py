"""How the vectors of a text's tokens become one: what sentence-transformers wrote beside a checkpoint, as a key.

Knows the files `modules.json` and `1_Pooling/config.json` in both their dialects; knows no weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.header import Keys, u32
from localllm.errors import BadCheckpoint, UnsupportedModel

_TYPES = {"mean": 1, "cls": 2, "lasttoken": 3}
"""`enum llama_pooling_type` of llama.h by the name in `pooling_mode`."""

_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
"""What older files say instead, a flag for each."""


def modules(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """The steps of sentence-transformers, each with the name of its class and its folder; empty where it is not one.

    Raises:
        BadCheckpoint: the file does not list steps.
    """
    listed = checkpoint.json("modules.json") if "modules.json" in checkpoint.names else []
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise BadCheckpoint(f"{checkpoint.files.title}: modules.json does not hold a list of objects.")
    return [(str(one.get("type", "")).rpartition(".")[2], str(one.get("path", ""))) for one in listed]


def pooling_keys(checkpoint: Checkpoint, arch: str, also: Collection[str] = ()) -> Keys:
    """The key of pooling; none where the checkpoint says nothing of it. `also` are further steps that are converted.

    Raises:
        BadCheckpoint: `modules.json` lists no steps, or a file that it names is missing.
        UnsupportedModel: a pooling or another step that llama.cpp does not do.
    """
    found: Keys = {}
    for kind, path in modules(checkpoint):
        if kind == "Pooling":
            found[f"{arch}.pooling_type"] = u32(_pooling_type(checkpoint.require_json(f"{path}/config.json"), path))
        elif kind not in ("Transformer", "Normalize", *also):
            raise UnsupportedModel(
                f"{checkpoint.files.title}: modules.json has a step {kind!r} that is not converted.",
                hint="The embeddings of a GGUF without it would be others than the checkpoint's.",
            )
    return found


def _pooling_type(settings: Mapping[str, Any], path: str) -> int:
    modes = settings.get("pooling_mode") or [mode for name, mode in _FLAGS.items() if settings.get(name)]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in _TYPES:
        raise UnsupportedModel(
            f"{path}/config.json: pooling by {' and '.join(modes) or 'nothing'}; llama.cpp knows {', '.join(_TYPES)}."
        )
    return _TYPES[modes[0]]
