"""Checkpoints that are quantized already, as if they were not: plain names and shapes, rows unpacked on demand.

A format is one module with a function that takes the stored tensors that are its own. What is unpacked is float32,
the product that the format defines, not rounded; the 16-bit type that llama.cpp's converter would put between is that
of the stored tensors, as for any other checkpoint. Which modules are packed is seen from the tensors, so lists of
modules that are not need no reading. Knows nothing of GGUF and of families.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from localllm.convert.config import Config
from localllm.convert.files import Files
from localllm.convert.packed import bitsandbytes, compressed, grouped, mxfp4, scaled
from localllm.convert.packed.parts import Parts
from localllm.convert.tensor import SourceTensor, Tensor
from localllm.errors import BadCheckpoint, UnsupportedModel

METHODS: dict[str, Callable[[Parts, Mapping[str, Any]], None]] = {
    "awq": grouped.unpack_awq,
    "bitsandbytes": bitsandbytes.unpack,
    "compressed-tensors": compressed.unpack,
    "fp8": scaled.unpack,
    "finegrained_fp8": scaled.unpack,
    "fbgemm_fp8": scaled.unpack,
    "gptq": grouped.unpack_gptq,
    "mxfp4": mxfp4.unpack,
}
"""What unpacks a checkpoint, by the `quant_method` of its configuration."""


BESIDE = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
"""Files of their own in which older checkpoints say how they are quantized."""


def settings(config: Config, beside: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the checkpoint says of how it is quantized; None when it is not. `beside` are the files that are there.

    Raises:
        BadCheckpoint: it says it in a way that cannot be read.
    """
    places = [
        ("", config.get("quantization_config")),
        ("compressed-tensors", config.get("compression_config")),
        *((BESIDE[name], content) for name, content in beside.items()),
    ]
    method, found = next(((method, found) for method, found in places if found), ("", None))
    if found is None:
        return None
    if not isinstance(found, dict):
        raise BadCheckpoint(f"The quantization_config of the checkpoint is {found!r}, not an object.")
    if found.get("load_in_4bit") or found.get("load_in_8bit"):
        method = "bitsandbytes"
    return {"quant_method": method, **found}


def unpack(files: Files, how: Mapping[str, Any] | None, stored: Mapping[str, SourceTensor]) -> dict[str, Tensor]:
    """The weights of the model: plain tensors as they are stored, packed ones by their plain names.

    Raises:
        UnsupportedModel: a method, a number of bits or a layout that is not known.
        BadCheckpoint: a tensor that belongs to a packed one is missing or has a wrong shape.
    """
    if how is None:
        return dict(stored)
    method = METHODS.get(str(how["quant_method"]))
    if method is None:
        raise UnsupportedModel(
            f"The checkpoint is quantized already, by a method that is not known here: {how['quant_method']!r}.",
            hint=f"Known: {', '.join(METHODS)}. Or convert the original in BF16, F16 or F32.",
        )
    parts = Parts(files, stored)
    method(parts, how)
    return parts.result()
