"""Goldens: what transformers computes for a tiny checkpoint of each family, and the same from llama.cpp.

A golden is one JSON file in `goldens/`. Somebody writes its `config_class`, `values` and perhaps `old`, `model_class`
and `output`; `tools/make_goldens.py` adds the rest with torch and transformers: the config.json and the names and
shapes of the tensors as transformers saves them, and the outputs for `TOKENS`. The weights are in no file: they follow
from their names.
"""

from __future__ import annotations

import base64
import ctypes
import json
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from make_tiny_models import Weights, as_bytes, byte_level_tokenizer, write_json, write_weights

from localllm.native import handles, lib, log

FOLDER = Path(__file__).with_name("goldens")
TOKENS = (5, 17, 100, 42, 7, 250, 33, 64, 128, 9, 77, 201)
OUTPUTS = 4
"""Of this many last tokens the outputs are kept."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Golden:
    """One case. `outputs` is (OUTPUTS, vocabulary) logits, or (OUTPUTS, hidden) for `output` "embeddings"."""

    name: str
    case: dict[str, Any]

    @property
    def made(self) -> bool:
        """Whether the tool has run for it."""
        return "outputs" in self.case

    @property
    def config(self) -> dict[str, Any]:
        """config.json as transformers 5 saves it."""
        found: dict[str, Any] = self.case["config"]
        return found

    @property
    def old_config(self) -> dict[str, Any]:
        """config.json as published checkpoints of older versions have it."""
        return old_dialect(self.config, self.case.get("old", {}))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors as transformers saves them."""
        return {name: tuple(shape) for name, shape in self.case["tensors"].items()}

    @property
    def embeds(self) -> bool:
        """Whether the outputs are the hidden states of each token, not logits."""
        return bool(self.case.get("output") == "embeddings")

    @property
    def outputs(self) -> Floats:
        """What transformers computes in float32."""
        values = np.frombuffer(base64.b64decode(self.case["outputs"]), dtype="<f4")
        return values.reshape(OUTPUTS, -1)


def goldens() -> list[Golden]:
    """All cases, by name."""
    return [Golden(path.stem, json.loads(path.read_text("utf-8"))) for path in sorted(FOLDER.glob("*.json"))]


def old_dialect(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The same configuration as transformers 4 wrote it; `changes` come last, and None removes a key.

    Of a model with several parts the `text_config` and what is in it changes in the same way.
    """
    old = dict(config)
    changes = dict(changes)
    if "text_config" in old:
        old["text_config"] = old_dialect(old["text_config"], changes.pop("text_config", {}))
    parameters = dict(old.pop("rope_parameters", None) or {})
    if "full_attention" in parameters:
        old["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        parameters = dict(parameters["full_attention"])
    if "dtype" in old:
        old["torch_dtype"] = old.pop("dtype")
    if "rope_theta" in parameters:
        old["rope_theta"] = parameters.pop("rope_theta")
    if "partial_rotary_factor" in parameters:
        old["partial_rotary_factor"] = parameters.pop("partial_rotary_factor")
    if parameters.get("rope_type", "default") != "default":
        old["rope_scaling"] = parameters
    return {key: value for key, value in (old | changes).items() if changes.get(key, "") is not None}


def weight(name: str, shape: tuple[int, ...]) -> Floats:
    """Seeded numbers for the tensor of this name: matrices that keep the size of what goes through, norms near one,
    biases near zero, and rates of decay as state-space models have them."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    values: Floats = generator.standard_normal(shape, dtype=np.float32)
    if name.endswith("A_log"):
        values = np.log(1 + np.abs(values))
    elif len(shape) < 2:
        is_scale = re.search(r"([nN]orm\d?|ln_?\w*|layernorm\w*|\.D)(\.weight)?$", name) is not None
        values = values * np.float32(0.2) + np.float32(1.0 if is_scale else 0.0)
    elif not re.search(r"embed|wte|wpe", name):
        values = values / np.float32(math.sqrt(shape[-1]))
    return values


def seeded(name: str, shape: tuple[int, ...]) -> Weights:
    """The same, to be written."""
    return Weights("f32", shape, lambda: [as_bytes(weight(name, shape), "f32")])


def write_checkpoint(golden: Golden, folder: Path, config: dict[str, Any] | None = None) -> Path:
    """The checkpoint of a golden in `folder`, which is made: float32 weights and a small byte-level tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config or golden.config
    write_json(folder / "config.json", config | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None})
    vocab = (config.get("text_config") or config).get("vocab_size") or 320
    write_json(folder / "tokenizer.json", byte_level_tokenizer(vocab))
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", **names})

    write_weights(folder, {name: seeded(name, shape) for name, shape in golden.shapes.items()})
    return folder


@contextmanager
def decoded(
    path: Path, tokens: Sequence[int], *, embeds: bool = False, pooling: int = 0, adapter: Path | None = None
) -> Iterator[tuple[Any, handles.ModelHandle]]:
    """A context of llama.cpp that has read the tokens as one sequence, and its model.

    With `embeds` it keeps hidden states, made one by `pooling`: 0 for none, -1 for what the file says. `adapter` is the
    file of a LoRA adapter.
    """
    api = lib.llama()
    with handles.open_model(path) as model:
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = max(64, len(tokens))
        params.n_threads = params.n_threads_batch = 2
        params.type_k = params.type_v = handles.KV_TYPE_IDS["f32"]
        params.flash_attn_type = 0
        if embeds:
            params.embeddings, params.pooling_type = True, pooling
        context = api.llama_init_from_model(model.pointer, params)
        assert context, log.recent_problems()
        if adapter is not None:
            loaded = api.llama_adapter_lora_init(model.pointer, str(adapter).encode())
            assert loaded, log.recent_problems()
            api.llama_set_adapters_lora(context, (type(loaded) * 1)(loaded), 1, (ctypes.c_float * 1)(1.0))
        batch = api.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for index, token in enumerate(tokens):
                batch.token[index], batch.pos[index], batch.logits[index] = token, index, 1
                batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            assert api.llama_decode(context, batch) == 0, log.recent_problems()
            yield context, model
        finally:
            api.llama_batch_free(batch)
            api.llama_free(context)


def llama_outputs(
    path: Path, *, embeds: bool = False, tokens: tuple[int, ...] = TOKENS, adapter: Path | None = None
) -> Floats:
    """What llama.cpp computes for the last tokens: (OUTPUTS, n) logits or, with `embeds`, hidden states.

    With `adapter` a LoRA adapter is applied.
    """
    api = lib.llama()
    with decoded(path, tokens, embeds=embeds, adapter=adapter) as (context, model):
        if embeds:
            width, output = api.llama_model_n_embd(model.pointer), api.llama_get_embeddings_ith
        else:
            width, output = api.llama_vocab_n_tokens(model.vocab), api.llama_get_logits_ith
        rows = [output(context, index) for index in range(len(tokens) - OUTPUTS, len(tokens))]
        return np.stack([_numbers(row, width) for row in rows])


def llama_embedding(path: Path, tokens: Sequence[int]) -> Floats:
    """The one vector that llama.cpp makes of a text, pooled as the file says and brought to length one."""
    api = lib.llama()
    with decoded(path, tokens, embeds=True, pooling=-1) as (context, model):
        vector = _numbers(api.llama_get_embeddings_seq(context, 0), api.llama_model_n_embd(model.pointer))
    unit: Floats = vector / np.linalg.norm(vector)
    return unit


def _numbers(pointer: Any, width: int) -> Floats:
    assert pointer, "llama.cpp has no such output"
    numbers: Floats = np.ctypeslib.as_array(ctypes.cast(pointer, _FLOATS), (width,)).copy()
    return numbers


_FLOATS = ctypes.POINTER(ctypes.c_float)


def error(expected: Floats, found: Floats) -> float:
    """Normalized mean squared error: that of the difference over that of what was expected."""
    return float(np.mean(np.square(expected - found)) / np.mean(np.square(expected)))
