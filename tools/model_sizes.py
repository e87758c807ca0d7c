"""What a model weighs in a quantization, and what it needs to run, from the sizes in its `config.json` alone.

The families of the converter say which tensors there are, libllama which type each gets, and a load that allocates
nothing what the KV cache and the computing take. No weights, no network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from localllm.convert.config import Config
from localllm.convert.families import known
from localllm.convert.header import Keys, lay_out, text, u32
from localllm.convert.mixture import TensorInfo, choose_types
from localllm.convert.plan import PlannedTensor, expand, file_order
from localllm.convert.scratch import skeleton
from localllm.convert.settings import Settings
from localllm.gguf_file import TENSOR_TYPES, read_header
from localllm.native import devices, ledger
from localllm.runtime.options import Options
from localllm.runtime.simulate import estimated, simulated

_BYTES = {name: (block, size) for name, block, size in TENSOR_TYPES.values()}


@dataclass(frozen=True)
class Sizes:
    """The tensors of a model without their types, and the keys of its header without a vocabulary."""

    keys: Keys
    tensors: tuple[PlannedTensor, ...]
    context: int
    _types: dict[str, tuple[TensorInfo, ...]] = field(default_factory=dict, repr=False)

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(tensor.rows * tensor.columns for tensor in self.tensors)

    def typed(self, quantization: str) -> tuple[TensorInfo, ...]:
        """The tensors with the types that llama.cpp's quantizer gives them.

        Raises:
            UnsupportedModel: there is no such quantization for these shapes.
        """
        if quantization not in self._types:
            infos = [(t.name, t.shape[::-1], t.before_quantizing("BF16")) for t in self.tensors]
            types = choose_types(self.keys, infos, Settings(type=quantization)).types
            self._types[quantization] = tuple((name, shape, types[name]) for name, shape, _ in infos)
        return self._types[quantization]

    def weights(self, quantization: str) -> int:
        """The bytes of all tensors, without padding."""
        return sum(math.prod(shape) // _BYTES[kind][0] * _BYTES[kind][1] for _, shape, kind in self.typed(quantization))

    def beside_weights(self, quantization: str, ctx: int) -> tuple[int, bool]:
        """(bytes of the KV cache in F16 for `ctx` tokens and of what is computed with, whether they are exact).

        They are read from llama.cpp's own ledger, or bounded by formulas where that cannot be read for a CPU alone.
        """
        options = Options(n_ctx=ctx, gpu_layers=0, cpu_moe=0, n_ubatch=512, kv_type="f16", threads=1, tuned=False)
        alone = ledger.supported() and not devices.offload_devices(devices.devices())
        with skeleton(lay_out(self.keys, self.typed(quantization))) as path:
            header = read_header(path)
            if alone:
                parts = simulated(header, options).devices
                return sum(part.kv + part.compute for part in parts), True
            uses, _, _ = estimated(header, options)
            return sum(use.kv + use.compute for use in uses if use.kind == "cpu"), False


def sizes_of(architecture: str, config: Mapping[str, Any], context: int) -> Sizes:
    """The tensors of a model with the sizes in `config`, under the names of `config.json`.

    Optional tensors, such as biases that some checkpoints have, are left out.

    Raises:
        KeyError: no family is known for the architecture.
        LocalLLMError: the sizes contradict each other.
    """
    family = known()[architecture]
    values = {"architectures": [architecture], "max_position_embeddings": context, **config}
    complete = family.complete(Config(values))
    planned: dict[str, PlannedTensor] = {}
    for rule, layer, sizes in expand(family, complete):
        name = rule.name.format(i=layer)
        tied = rule.source == family.head and complete.flag("tie_word_embeddings")
        if name in planned or rule.optional or tied:
            continue
        count = sizes[rule.each] if "{e}" in rule.source else 1
        transform = rule.transform(sizes)
        shape = transform.shape([rule.source_shape(sizes)] * count)
        planned[name] = PlannedTensor(name, shape, "BF16", (), transform)
    for extra in family.extras(complete):
        planned[extra.name] = PlannedTensor(extra.name, extra.transform.shape([]), "F32", (), extra.transform)
    keys: Keys = {"general.architecture": text(family.arch), "tokenizer.ggml.model": text("no_vocab")}
    keys |= family.hyperparameters(complete, family.arch)
    keys[f"{family.arch}.vocab_size"] = u32(complete.count("vocab_size"))
    ordered = sorted(planned.values(), key=lambda tensor: file_order(tensor.name))
    return Sizes(keys, tuple(ordered), context)
