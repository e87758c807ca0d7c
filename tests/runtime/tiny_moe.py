"""A mixture of experts for tests: a Mixtral with seeded weights, small, its bytes where a large one has them."""

from __future__ import annotations

import re
from pathlib import Path

from localllm import convert
from tests.convert import golden

LAYERS, HIDDEN, FEED_FORWARD = 8, 64, 512


def tiny_moe(folder: Path) -> Path:
    """Its GGUF in F16: 8 layers of 4 experts, which are 95 % of its weights."""
    case = next(each for each in golden.goldens() if each.name == "mixtral").case
    config = case["config"] | {"num_hidden_layers": LAYERS, "intermediate_size": FEED_FORWARD}
    old = case["config"]["intermediate_size"]
    tensors = {}
    for name, shape in case["tensors"].items():
        wide = [FEED_FORWARD if size == old else size for size in shape]
        for layer in range(LAYERS) if ".layers.0." in name else []:
            tensors[re.sub(r"\.layers\.0\.", f".layers.{layer}.", name)] = wide
        if ".layers." not in name:
            tensors[name] = wide
    made = golden.Golden("moe", {**case, "config": config, "tensors": tensors})
    checkpoint = golden.write_checkpoint(made, folder / "moe")
    out = folder / "moe.gguf"
    convert.convert(checkpoint, out, type="F16")
    return out
