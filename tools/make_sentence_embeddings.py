#!/usr/bin/env python3
"""Remakes tests/convert/minilm.json: what transformers makes of some sentences with all-MiniLM-L6-v2.

    python tools/make_sentence_embeddings.py CHECKPOINT TYPE=GGUF ...

CHECKPOINT is the folder of the model; each TYPE=GGUF is a file of that type that llama.cpp's converter (F16, F32) or
quantizer made of it. Needs torch and transformers besides numpy; run it from the top folder. The tests need neither.
"""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path

# A script finds only its own folder by itself.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from make_tiny_models import write_json

from tests.convert.minilm import FILE, SENTENCES, tensors_digest


def embedded(checkpoint: Path) -> list[dict[str, object]]:
    """Token ids and vectors, as the model's card computes them."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModel.from_pretrained(checkpoint, attn_implementation="eager").float().eval()
    found: list[dict[str, object]] = []
    for text in SENTENCES:
        tokens = tokenizer(text)["input_ids"]
        with torch.no_grad():
            mean = model(torch.tensor([tokens])).last_hidden_state[0].mean(dim=0)
        vector = torch.nn.functional.normalize(mean, dim=0).numpy().astype("<f4")
        found.append({"text": text, "tokens": tokens, "vector": base64.b64encode(vector.tobytes()).decode()})
        print(f"{len(tokens):4} tokens: {text[:60]!r}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("references", nargs="+", metavar="TYPE=GGUF")
    args = parser.parse_args()
    pairs = [reference.partition("=")[::2] for reference in args.references]
    tensors = {name: tensors_digest(Path(path)) for name, path in pairs}
    write_json(FILE, {"sentences": embedded(args.checkpoint), "tensors": tensors})
    return 0


if __name__ == "__main__":
    sys.exit(main())
