#!/usr/bin/env python3
"""Makes small Llama checkpoints with seeded random weights, for tests and benchmarks. Needs numpy and tokenizers.

    tools/make_tiny_models.py OUTDIR [--layers 2] [--hidden 256] [--dtype bf16] [--shards 2] [--tied]

The weights mean nothing; the files are what transformers would write: config.json, safetensors (one or several with an
index), tokenizer.json, tokenizer_config.json and generation_config.json.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

DTYPES = {"bf16": ("BF16", 2), "f16": ("F16", 2), "f32": ("F32", 4)}
"""Our name of a type: its name in safetensors and its bytes."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def as_bytes(values: Floats, dtype: str) -> bytes:
    """`values` as little-endian `bf16` (rounded to nearest, ties to even), `f16` or `f32`."""
    if dtype == "f32":
        return values.astype("<f4").tobytes()
    if dtype == "f16":
        return values.astype("<f2").tobytes()
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded: bytes = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    return rounded


@dataclass(frozen=True)
class Weights:
    """One tensor to write: its shape and a function that makes its bytes, slab by slab, when they are due."""

    dtype: str
    shape: tuple[int, ...]
    slabs: Callable[[], Iterable[bytes]]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype][1]


def write_safetensors(path: Path, tensors: Mapping[str, Weights]) -> None:
    """Write one safetensors file: a u64 with the length of a JSON header, the header, the data. Streams."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        ends = [offset, offset + tensor.n_bytes]
        header[name] = {"dtype": DTYPES[tensor.dtype][0], "shape": list(tensor.shape), "data_offsets": ends}
        offset = ends[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            for slab in tensor.slabs():
                file.write(slab)


def write_weights(folder: Path, tensors: Mapping[str, Weights], shards: int = 1) -> None:
    """Write `model.safetensors`, or `shards` files of about the same size with an index."""
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    total = sum(tensor.n_bytes for tensor in tensors.values())
    parts: list[dict[str, Weights]] = [{} for _ in range(shards)]
    done = 0
    for name, tensor in tensors.items():
        parts[min(done * shards // total, shards - 1)][name] = tensor
        done += tensor.n_bytes
    weight_map: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        file = f"model-{number:05}-of-{shards:05}.safetensors"
        write_safetensors(folder / file, part)
        weight_map |= dict.fromkeys(part, file)
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))},
    )


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class TinyLlama:
    """The numbers of a small Llama. `config` is merged into config.json last; a None in it removes the key."""

    layers: int = 2
    hidden: int = 256
    ffn: int = 512
    heads: int = 4
    kv_heads: int = 2
    vocab: int = 320
    dtype: str = "bf16"
    shards: int = 1
    tied: bool = False
    bias: bool = False
    seed: int = 1
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def head_dim(self) -> int:
        return int(self.config.get("head_dim") or self.hidden // self.heads)

    def config_json(self) -> dict[str, Any]:
        dtype = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[self.dtype]
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": self.tied,
            "torch_dtype": dtype,
            "vocab_size": self.vocab,
            "bos_token_id": 1,
            "eos_token_id": 2,
            **self.config,
        }
        return {key: value for key, value in config.items() if value is not None}

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor's name and shape, in the order of the layers."""
        q_rows, kv_rows = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield "model.embed_tokens.weight", (self.vocab, self.hidden)
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            yield prefix + "input_layernorm.weight", (self.hidden,)
            yield prefix + "mlp.down_proj.weight", (self.hidden, self.ffn)
            yield prefix + "mlp.gate_proj.weight", (self.ffn, self.hidden)
            yield prefix + "mlp.up_proj.weight", (self.ffn, self.hidden)
            yield prefix + "post_attention_layernorm.weight", (self.hidden,)
            for name, rows, columns in (
                ("k", kv_rows, self.hidden),
                ("o", self.hidden, q_rows),
                ("q", q_rows, self.hidden),
                ("v", kv_rows, self.hidden),
            ):
                yield f"{prefix}self_attn.{name}_proj.weight", (rows, columns)
                if self.bias:
                    yield f"{prefix}self_attn.{name}_proj.bias", (rows,)
        yield "model.norm.weight", (self.hidden,)
        if not self.tied:
            yield "lm_head.weight", (self.vocab, self.hidden)

    def weights(self) -> dict[str, Weights]:
        return {
            name: random_weights(shape, self.dtype, seed=(self.seed, number))
            for number, (name, shape) in enumerate(self.shapes())
        }


def random_weights(shape: tuple[int, ...], dtype: str, seed: tuple[int, ...], slab: int = 1 << 22) -> Weights:
    """Seeded normal numbers with the spread of a trained layer (norms around one), made slab by slab."""

    def slabs() -> Iterator[bytes]:
        generator = np.random.default_rng(seed)
        count = math.prod(shape)
        for start in range(0, count, slab):
            values = generator.standard_normal(min(slab, count - start), dtype=np.float32)
            values *= 0.02 if len(shape) > 1 else 0.1
            if len(shape) == 1:
                values += 1.0
            yield as_bytes(values, dtype)

    return Weights(dtype, shape, slabs)


def byte_level_tokenizer(vocab: int) -> dict[str, Any]:
    """A tokenizer.json with the 256 bytes, three special tokens and merges learned from a few sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([SENTENCES], trainer)
    parsed: dict[str, Any] = json.loads(tokenizer.to_str())
    return parsed


SENTENCES = (
    "The capital of France is Paris. It's a city that we've all heard of, isn't it? They'll say so: 'Paris!'\n"
    "def area(radius):\n    return 3.14159 * radius ** 2\n\n\tint main() { return 0; }\n"
    "Die Hauptstadt von Österreich ist Wien. La capitale de l'été. Столица России. 東京は日本。 서울 القاهرة\n"
)


def write_checkpoint(folder: Path, model: TinyLlama, tokenizer: Mapping[str, Any] | None = None) -> Path:
    """Write a whole checkpoint to `folder`, which is made, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", model.config_json())
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    write_json(folder / "tokenizer.json", tokenizer or byte_level_tokenizer(model.vocab))
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
            "chat_template": CHAT_TEMPLATE,
            "tokenizer_class": "GPT2Tokenizer",
        },
    )
    write_weights(folder, model.weights(), model.shards)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outdir", type=Path)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--ffn", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=320)
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bf16")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--tied", action="store_true")
    args = vars(parser.parse_args())
    print(write_checkpoint(args.pop("outdir"), TinyLlama(**args)))


if __name__ == "__main__":
    main()
