#!/usr/bin/env python3
"""Remakes the goldens in tests/convert/goldens with torch and transformers. Neither is needed to run the tests.

    python tools/make_goldens.py [NAME ...]        those that were never made, or the ones named; --all for every one

Needs torch, transformers, numpy and what localllm needs; run it from the top folder.
"""

from __future__ import annotations

import argparse
import base64
import json
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

# A script finds only its own folder by itself.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from make_tiny_models import write_json, write_weights

from tests.convert.golden import FOLDER, OUTPUTS, TOKENS, Golden, goldens, seeded

VOLATILE = ("transformers_version", "_name_or_path")


def transformers_model(golden: Golden) -> Any:
    """The model of a case with random weights, in float32 and with attention spelt out."""
    import torch
    import transformers

    config = getattr(transformers, golden.case["config_class"])(**golden.case["values"])
    torch.manual_seed(0)
    name = golden.case.get("model_class")
    if name:
        return getattr(transformers, name)._from_config(config, attn_implementation="eager").float()
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()


def saved(model: Any, folder: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The config.json, and the names and shapes of the tensors, that transformers saves."""
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    with (folder / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    shapes = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    return {key: value for key, value in config.items() if key not in VOLATILE}, dict(sorted(shapes.items()))


def outputs(model: Any, golden: Golden, shapes: dict[str, list[int]], folder: Path) -> bytes:
    """What the model computes with the seeded weights."""
    import torch

    write_weights(folder, {name: seeded(name, tuple(shape)) for name, shape in shapes.items()})
    loaded, info = type(model).from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(problem):
            raise SystemExit(f"{golden.name}: {problem}: {info[problem]}")
    loaded = loaded.float().eval()
    with torch.no_grad():
        result = loaded(torch.tensor([TOKENS]))
    found = result.last_hidden_state if golden.embeds else result.logits
    values: bytes = found[0, -OUTPUTS:].float().numpy().astype("<f4").tobytes()
    return values


def computed(golden: Golden) -> Golden:
    """A case with what transformers makes of it now: its configuration, its tensors and their outputs."""
    import torch
    import transformers

    model = transformers_model(golden)
    with tempfile.TemporaryDirectory() as folder:
        config, shapes = saved(model, Path(folder))
        values = outputs(model, golden, shapes, Path(folder))
    inputs = {k: v for k, v in golden.case.items() if k not in ("config", "tensors", "outputs", "made_with")}
    made_with = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}"
    found = {"config": config, "tensors": shapes, "made_with": made_with}
    return Golden(golden.name, {**inputs, **found, "outputs": base64.b64encode(values).decode()})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    cases = {golden.name: golden for golden in goldens()}
    unknown = [name for name in args.names if name not in cases]
    if unknown:
        parser.error(f"no such golden: {', '.join(unknown)}")
    for golden in [cases[name] for name in args.names] or [g for g in cases.values() if args.all or not g.made]:
        made = computed(golden)
        write_json(FOLDER / f"{made.name}.json", made.case)
        print(f"{made.name}: {len(made.shapes)} tensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
