"""ggml's own quantizers and number formats on the caller's buffers, and `llama_model_quantize`.

Knows types and rows; knows nothing of checkpoints or files' layout. Every call releases the GIL, so several threads
quantize at once; rows are independent, so any split of a tensor into rows gives the same bytes.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from localllm.errors import BadModelFile
from localllm.gguf_file import FILE_TYPES, TENSOR_TYPES
from localllm.native import lib, log

TYPE_IDS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}
"""`enum ggml_type` by our name of the type."""

FILE_TYPE_IDS = {name: number for number, name in FILE_TYPES.items()}
"""`enum llama_ftype` by our name of the quantization."""

Buffer = npt.NDArray[Any]


@functools.cache
def _function(name: str, restype: Any, *argtypes: Any) -> Callable[..., Any]:
    function: Callable[..., Any] = lib.bind(lib.ggml("ggml-base"), name, restype, *argtypes)
    return function


def type_table() -> dict[int, tuple[str, int, int]]:
    """Name, elements per block and bytes per block of each type in `TENSOR_TYPES`, as this ggml has them."""
    name = _function("ggml_type_name", ctypes.c_char_p, ctypes.c_int)
    block = _function("ggml_blck_size", ctypes.c_int64, ctypes.c_int)
    size = _function("ggml_type_size", ctypes.c_size_t, ctypes.c_int)
    return {number: (name(number).decode().upper(), block(number), size(number)) for number in TENSOR_TYPES}


def row_bytes(type_name: str, columns: int) -> int:
    """Bytes of one row of `columns` elements, which must fill whole blocks."""
    return int(_function("ggml_row_size", ctypes.c_size_t, ctypes.c_int, ctypes.c_int64)(TYPE_IDS[type_name], columns))


def quantize(
    type_name: str, source: Buffer, target: Buffer, rows: int, columns: int, importance: Buffer | None = None
) -> int:
    """Quantize `rows` rows of float32 in `source` into `target`, both contiguous; returns the bytes written.

    `F32`, `F16` and `BF16` are types like the others: numbers are rounded to the nearest, ties to even. `importance`
    holds a float32 per column; a type that `aborts_without_importance` must not come without.
    """
    call = _function(
        "ggml_quantize_chunk",
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    )
    weights = None if importance is None else importance.ctypes.data
    return int(call(TYPE_IDS[type_name], source.ctypes.data, target.ctypes.data, 0, rows, columns, weights))


def aborts_without_importance(type_name: str) -> bool:
    """Whether ggml ends the process when it shall quantize to this type without importance."""
    return bool(_function("ggml_quantize_requires_imatrix", ctypes.c_bool, ctypes.c_int)(TYPE_IDS[type_name]))


def is_valid(type_name: str, data: Buffer, n_bytes: int) -> bool:
    """Whether the first `n_bytes` of `data` hold only finite numbers (block scales, for a quantized type)."""
    call = _function("ggml_validate_row_data", ctypes.c_bool, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    return bool(call(TYPE_IDS[type_name], data.ctypes.data, n_bytes))


def to_float32(type_name: str, source: Buffer, target: Buffer, count: int) -> None:
    """Widen `count` numbers of any type but F32 and integers in `source` to float32 in `target`."""
    halves = {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row"}
    blocks = type_name.lower().removesuffix("_k") + ("_K" if type_name.endswith("_K") else "")
    name = halves.get(type_name, f"dequantize_row_{blocks}")
    call = _function(name, None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    call(source.ctypes.data, target.ctypes.data, count)


def quantize_file(
    source: Path,
    target: Path,
    file_type: str,
    *,
    threads: int = 0,
    dry_run: bool = False,
    requantize: bool = False,
    pure: bool = False,
    prune_layers: Sequence[int] = (),
    imatrix: Mapping[str, Buffer] | None = None,
) -> str:
    """Run `llama_model_quantize`, the engine of `llama-quantize`, and return what it logged.

    With `dry_run` nothing is written: the log then names the type that every tensor would get. `requantize` lets the
    source be quantized already, `pure` gives all matrices the same type, `prune_layers` are left out. `imatrix` holds
    the importance of the columns of tensors, in float32.

    Raises:
        BadModelFile: llama.cpp refuses; the message holds its reason.
    """
    api = lib.llama()
    params = api.llama_model_quantize_default_params()
    params.ftype = FILE_TYPE_IDS[file_type]
    params.nthread = threads
    params.dry_run = dry_run
    params.allow_requantize = requantize
    params.pure = pure
    if prune_layers:
        params.prune_layers = (ctypes.c_int32 * (len(prune_layers) + 1))(*sorted(prune_layers), -1)
    if imatrix:
        params.imatrix = _imatrix_data(api, imatrix)
    lib.listen()

    def quantize() -> int:
        return int(api.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params)))

    with log.captured() as lines:
        status = lib.apart(quantize)
    if status != 0:
        problems = [line.split(": ", 1)[-1].strip() for line in log.recent_problems() if line.strip()]
        reason = problems[-1] if problems else "llama.cpp gives no reason"
        raise BadModelFile(f"{source} cannot be quantized to {file_type}: {reason}")
    return "".join(lines)


def _imatrix_data(api: Any, imatrix: Mapping[str, Buffer]) -> Any:
    """An array of `llama_model_imatrix_data` that ends with an empty one. It keeps the buffers alive."""
    entries = (api.llama_model_imatrix_data * (len(imatrix) + 1))()
    for entry, (name, values) in zip(entries, imatrix.items(), strict=False):
        entry.name, entry.size = name.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return entries
