"""Simulated loads do without the vocabulary: what llama.cpp would allocate is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.errors import LocalLLMError
from localllm.gguf_file import Array, read_header
from localllm.native import devices, ledger, log
from localllm.runtime.context import open_context
from localllm.runtime.opening import open_model
from localllm.runtime.options import Options
from localllm.runtime.plan import make_plan
from localllm.runtime.skeleton import skeleton


def _taken(path: Path) -> list[ledger.BufferUse]:
    options = Options(n_ctx=512, threads=1, gpu_layers=0, kv_type="f16", n_ubatch=512, cpu_moe=0)
    with log.captured(), open_model(path, options, simulate=True) as model:
        context = open_context(model, options)
        try:
            return list(ledger.read(context.pointer))
        finally:
            context.close()


@pytest.mark.skipif(not ledger.supported(), reason="llama.cpp's own ledger cannot be read on this platform")
def test_it_takes_what_the_model_takes(smollm2: Path) -> None:
    with skeleton(read_header(smollm2)) as path:
        assert path != smollm2
        assert _taken(path) == _taken(smollm2)
        bare = read_header(path)
    whole = read_header(smollm2)
    assert [(tensor.name, tensor.shape, tensor.n_bytes) for tensor in bare.tensors] == [
        (tensor.name, tensor.shape, tensor.n_bytes) for tensor in whole.tensors
    ]
    lists = [key for key, value in bare.metadata.items() if isinstance(value, Array)]
    assert not [key for key in lists if key.startswith("tokenizer.")]
    assert bare.metadata["llama.vocab_size"] == len(whole.metadata["tokenizer.ggml.tokens"])  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_error_names_the_file_of_the_model(smollm2: Path, tmp_path: Path) -> None:
    whole = smollm2.read_bytes()
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(whole.replace(b"llama.attention.head_count\x04", b"llama.attention.head_counx\x04", 1))
    with pytest.raises(LocalLLMError, match=r"damaged\.gguf"):
        make_plan(damaged, Options(gpu_layers=0))


def test_no_file_is_left_open(smollm2: Path) -> None:
    devices.devices()
    header = read_header(smollm2)
    before = sorted(Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else []
    with skeleton(header):
        pass
    assert before == (sorted(Path("/proc/self/fd").iterdir()) if before else [])
