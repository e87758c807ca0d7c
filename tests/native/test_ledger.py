"""The memory ledger: what a simulated load promises is what a real load takes, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.native import devices, handles, ledger

pytestmark = pytest.mark.skipif(not ledger.supported(), reason="llama.cpp's ledger can only be read on Linux")


def _uses(path: Path, **options: object) -> dict[str, tuple[int, int, int]]:
    """Bytes (weights, kv, compute) by buffer."""
    with handles.open_model(path, **options) as model:  # type: ignore[arg-type]
        context = handles.open_context(model, n_ctx=512, n_batch=256, n_ubatch=128, threads=1)
        try:
            return {use.buffer: (use.weights, use.kv, use.compute) for use in ledger.read(context.pointer)}
        finally:
            context.close()


def _weights(uses: dict[str, tuple[int, int, int]]) -> int:
    """Bytes of all weights; a processor with a matrix unit has some of them in a buffer of their own."""
    return sum(weights for weights, _, _ in uses.values())


@pytest.mark.slow
def test_a_simulated_load_equals_the_real_one(smollm2: Path) -> None:
    simulated = _uses(smollm2, simulate=True)
    real = _uses(smollm2, load_mode=handles.LOAD_READ)
    assert simulated == real
    _, kv, compute = real["CPU"]
    # 30 layers, 3 KV heads of 64, K and V, 2 bytes each.
    assert kv == 512 * 30 * 3 * 64 * 2 * 2
    assert _weights(real) > 96_000_000
    assert compute > 0


@pytest.mark.skipif(devices.has_matrix_unit(), reason="the matrix unit has copies of the weights in another order")
def test_mapped_weights_are_the_same_bytes(smollm2: Path) -> None:
    mapped = _uses(smollm2, load_mode=handles.LOAD_MMAP)
    assert mapped["CPU_Mapped"][0] == _weights(_uses(smollm2, simulate=True))
