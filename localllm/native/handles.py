"""Models and contexts of llama.cpp as Python objects with a lifetime: opened, used by one thread, closed.

Knows which parameter of llama.cpp means what; knows nothing of plans, chats or sampling.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from localllm.errors import BadModelFile, Cancelled, DoesNotFit, EngineDied, UnsupportedModel
from localllm.native import architectures, lib, log

LOAD_READ, LOAD_MMAP, LOAD_MLOCK, LOAD_MMAP_MLOCK = 0, 1, 2, 3
"""`enum llama_load_mode` of llama.h."""

KV_TYPE_IDS = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}
"""`enum ggml_type` of ggml.h, those a KV cache may have."""


@dataclass
class ModelHandle:
    """A loaded `llama_model` and its vocabulary. `pointer` is None after `close()`."""

    path: Path
    pointer: Any
    vocab: Any

    def close(self) -> None:
        """Free the weights. Contexts made from the model must be closed before."""
        pointer, self.pointer = self.pointer, None  # in this order: Ctrl-C between the two must not free it twice
        if pointer is not None:
            lib.llama().llama_model_free(pointer)

    def __enter__(self) -> ModelHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def metadata(self, key: str) -> str | None:
        """A value of the file's metadata as text, or None."""
        api, size = lib.llama(), 1 << 10
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = api.llama_model_meta_val_str(self.pointer, key.encode(), buffer, size)
            if length < 0:
                return None
            if length < size:
                return buffer.value.decode("utf-8", "replace")
            size = length + 1

    def chat_template(self, name: str | None = None) -> str | None:
        """The chat template in the file, or that of another `name`, or None."""
        text = lib.llama().llama_model_chat_template(self.pointer, name.encode() if name else None)
        return text.decode("utf-8", "replace") if text else None


class _Override(ctypes.Structure):
    """`struct llama_model_tensor_buft_override` of llama.h."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def _experts_in_ram(layers: int) -> ctypes.Array[_Override]:
    """Keeps the experts of the first `layers` layers in the CPU's memory, wherever their layers run.

    Also for no layers, where it matches no tensor: a model with overrides gets no pipeline parallelism. That is for
    batches of several ubatches, which the engine does not make, and costs three more copies of what goes from device to
    device.
    """
    ram = lib.bind(lib.ggml("ggml-base"), "ggml_backend_cpu_buffer_type", ctypes.c_void_p)()
    numbers = "|".join(map(str, range(layers)))
    pattern = rf"^blk\.({numbers})\.ffn_[a-z_]*exps\.".encode()
    return (_Override * 2)(_Override(pattern, ram), _Override(None, None))


def _proportions(split: Sequence[float]) -> ctypes.Array[ctypes.c_float]:
    """As many numbers as llama.cpp copies."""
    most = max(int(lib.llama().llama_max_devices()), len(split))
    return (ctypes.c_float * most)(*split)


def _pointers(handles: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    """A list of pointers as C reads it: ended by NULL."""
    return (ctypes.c_void_p * (len(handles) + 1))(*handles, None)


def open_model(
    path: Path,
    *,
    gpu_layers: int = 0,
    devices: Sequence[int] | None = None,
    split: Sequence[float] = (),
    cpu_moe: int = 0,
    load_mode: int = LOAD_MMAP,
    vocab_only: bool = False,
    simulate: bool = False,
    progress: Callable[[float], bool] | None = None,
) -> ModelHandle:
    """Load a GGUF. With `simulate` no weights are read or allocated: only the sizes are real.

    The `gpu_layers` last layers are split over `devices`, ggml's pointers, in the proportions `split`; None means those
    that llama.cpp chooses. The experts of the first `cpu_moe` layers stay in RAM.
    `progress` is called with 0…1 and returns False to stop loading.

    Raises:
        BadModelFile: llama.cpp cannot read the file; the message holds its reason.
        UnsupportedModel: an architecture or tokenizer that this llama.cpp does not know.
        Cancelled: `progress` returned False.
    """
    api = lib.llama()
    params = api.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    listed = _pointers(devices or ())
    params.devices = None if devices is None else ctypes.cast(listed, ctypes.c_void_p)
    proportions, overrides = _proportions(split), _experts_in_ram(cpu_moe)
    if any(split):
        params.tensor_split = ctypes.cast(proportions, ctypes.POINTER(ctypes.c_float))
    if devices:
        params.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p)
    params.load_mode = LOAD_READ if simulate else load_mode
    params.vocab_only = vocab_only
    params.no_alloc = simulate
    stopped = threading.Event()
    failures: list[BaseException] = []

    def report(fraction: float, _data: Any) -> bool:
        try:
            if progress is not None and not progress(fraction):
                stopped.set()
        except BaseException as error:  # cannot pass through C: raised again below
            failures.append(error)
        return not (stopped.is_set() or failures)

    params.progress_callback = callback = api.llama_progress_callback(report)

    def load() -> ModelHandle:
        lib.listen()
        pointer = api.llama_model_load_from_file(os.fsencode(path), params)
        if failures:
            if pointer:
                api.llama_model_free(pointer)
            raise failures[0]
        if pointer:
            return ModelHandle(path, pointer, api.llama_model_get_vocab(pointer))
        if stopped.is_set():
            raise Cancelled(f"Loading {path.name} was stopped.")
        raise _load_error(path, log.recent_problems())

    opened = lib.apart(load, stopped.set, ModelHandle.close)
    del callback  # llama.cpp had it until here
    return opened


def _load_error(path: Path, problems: list[str]) -> Exception:
    reason = _reason(problems)
    if "unknown model architecture" in reason or "unknown pre-tokenizer" in reason or "unknown tokenizer" in reason:
        unknown = re.search(r"unknown model architecture: '(.*)'", reason)
        near = architectures.told(architectures.nearest(unknown[1])) if unknown else ""
        hint = f"{near}A newer llama-cpp-python may know it: pip install -U llama-cpp-python"
        return UnsupportedModel(f"{path}: {reason}", hint=hint)
    if "unable to allocate" in reason or "failed to allocate" in reason:
        return DoesNotFit(f"{path}: {reason}", hint="`localllm plan` shows what it needs and what there is.")
    return BadModelFile(f"{path}: {reason}", hint="The file may be damaged or incomplete: fetch or convert it again.")


def _reason(problems: list[str]) -> str:
    """The innermost of llama.cpp's complaints without the name of the function that complains."""
    texts = [line.split(": ", 1)[-1].strip() for line in problems if line.strip()]
    telling = [text for text in texts if not text.startswith(("failed to load model", "common_"))]
    return (telling or texts or ["llama.cpp gives no reason"])[0]


@dataclass
class ContextHandle:
    """A `llama_context`. `pointer` is None after `close()`; `stop_flag` aborts a running decode when set to b"x".

    `n_ctx` and `n_batch` are what llama.cpp made of the wish: it rounds a context up and a batch down. `k_type` is the
    type of K in its KV cache.
    """

    pointer: Any
    memory: Any
    n_ctx: int
    n_batch: int
    stop_flag: ctypes.Array[ctypes.c_char]
    k_type: str

    def close(self) -> None:
        """Free the KV cache and the compute buffers."""
        pointer, self.pointer = self.pointer, None
        if pointer is not None:
            lib.llama().llama_free(pointer)


def aligned_outputs(count: int) -> int:
    """The least number of outputs from `count` on with which tensors begin where a cache line does.

    ggml pads tensors to 32 bytes. The list of outputs, four bytes each, comes before most others in the compute buffer:
    where it fills an odd number of those, all that follow lie across cache lines, and prefill takes a fifth longer.
    """
    return count if -(-count // 8) % 2 == 0 else -(-count // 8) * 8 + 1


def open_context(
    model: ModelHandle,
    *,
    n_ctx: int,
    n_batch: int,
    n_ubatch: int,
    threads: int,
    sequences: int = 1,
    guesses: int = 0,
    kv_types: tuple[str, str] = ("f16", "f16"),
    flash_attention: bool | None = None,
    pooling: int | None = None,
) -> ContextHandle:
    """Make a context for some sequences that outputs the logits of one token of each at a time, and of `guesses` more.

    The sequences share the `n_ctx` cells of one KV cache, and each may be that long. With `pooling`, which is one of
    `enum llama_pooling_type`, it outputs a vector for each sequence. An embedding model has no KV cache, and so the
    context no `memory`.

    Raises:
        DoesNotFit: llama.cpp could not allocate it.
        EngineDied: llama.cpp refused the settings; the message holds its reason.
        UnsupportedModel: the model has an encoder beside its decoder.
    """
    api = lib.llama()
    params = api.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, n_batch, n_ubatch
    params.n_seq_max, params.n_outputs_max = sequences, aligned_outputs(sequences + guesses)
    params.n_threads = params.n_threads_batch = threads
    params.type_k, params.type_v = (KV_TYPE_IDS[kind] for kind in kv_types)
    params.flash_attn_type = -1 if flash_attention is None else int(flash_attention)
    params.swa_full = False
    params.kv_unified = True
    params.no_perf = True
    if pooling is not None:
        params.embeddings, params.pooling_type = True, pooling
    pointer = lib.apart(lambda: _new_context(api, model, params), discard=api.llama_free)
    stop_flag = ctypes.create_string_buffer(2)
    _set_abort(api, pointer, stop_flag)
    n_ctx, n_batch = api.llama_n_ctx(pointer), api.llama_n_batch(pointer)
    return ContextHandle(pointer, api.llama_get_memory(pointer) or None, n_ctx, n_batch, stop_flag, kv_types[0])


def _new_context(api: Any, model: ModelHandle, params: Any) -> Any:
    lib.listen()
    pointer = api.llama_init_from_model(model.pointer, params)
    if not pointer:
        reason = _reason(log.recent_problems())
        if "alloc" in reason:
            raise DoesNotFit(
                f"{model.path.name}: {reason}",
                hint="Try a smaller context (--ctx, n_ctx in Python), or a KV cache in q8_0 (--kv-type, kv_type).",
            )
        raise EngineDied(f"llama.cpp made no context for {model.path.name}: {reason}")
    if api.llama_model_has_encoder(model.pointer):
        api.llama_free(pointer)
        raise UnsupportedModel(
            f"{model.path.name} has an encoder beside its decoder, which localllm does not run.",
            hint="Choose a model that was trained to chat or to continue text.",
        )
    return pointer


def _set_abort(api: Any, context: Any, flag: ctypes.Array[ctypes.c_char]) -> None:
    """Let a decode on the CPU end as soon as `flag` holds a character.

    ggml asks its abort callback hundreds of times a token, which costs some percent in Python. `strlen` has the same
    calling convention, takes the flag's address and returns 0 while it is empty: a callback that runs no Python.
    """
    strlen = ctypes.CDLL(None if os.name == "posix" else "msvcrt").strlen
    address = ctypes.cast(ctypes.addressof(flag), ctypes.c_void_p)
    api._lib["llama_set_abort_callback"](
        ctypes.c_void_p(context) if isinstance(context, int) else context,
        ctypes.cast(strlen, ctypes.c_void_p),
        address,
    )
