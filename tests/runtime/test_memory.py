"""The live view of memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from localllm.runtime import memory
from localllm.runtime.memory import mapped_weights
from localllm.runtime.model import Model
from tests.runtime.conftest import GREEDY

SMAPS = """\
7f0000000000-7f0000800000 r--s 00000000 08:01 42                         /models/a.gguf
Size:               8192 kB
Rss:                6144 kB
Pss:                3072 kB
7f0001000000-7f0001100000 r--p 00000000 08:01 43                         /models/other.gguf
Rss:                1024 kB
7f0001800000-7f0001900000 r--s 00000000 08:01 44                         /backup/models/a.gguf
Rss:                1024 kB
7f0002000000-7f0002400000 r--s 00800000 08:01 42                         /models/a.gguf
Rss:                 100 kB
"""


def test_resident_weights_are_read_from_smaps(tmp_path: Path) -> None:
    smaps = tmp_path / "smaps"
    smaps.write_text(SMAPS)
    assert mapped_weights([Path("/models/a.gguf")], smaps) == (12 << 20, (6144 + 100) << 10)


def test_a_look_that_takes_long_is_rarely_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looks = [100.0], []

    def look(files: Sequence[Path]) -> tuple[int, int | None]:
        looks.append(clock[0])
        clock[0] += 0.025
        return 5, len(looks)

    monkeypatch.setattr(memory, "mapped_weights", look)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    mapped = memory.Mapped([])
    for _ in range(20):
        assert mapped.weights() == (5, len(looks))
        clock[0] += 1.0
    assert len(looks) == 3


def test_a_system_without_smaps_tells_nothing(tmp_path: Path) -> None:
    assert mapped_weights([Path("/models/a.gguf")], tmp_path / "none") == (0, None)


@pytest.mark.slow
def test_the_sample_follows_the_conversation(model: Model) -> None:
    before = model.memory()
    model.chat(sampling=GREEDY, max_tokens=8).ask("Name the capital of France.")
    after = model.memory()
    assert before.kv_used == 0
    assert after.kv_used == after.kv_allocated * model.context_used() // model.info.n_ctx > 0
    assert after.process > after.kv_allocated + after.compute
    assert after.system_available <= after.system_total


def test_mapped_weights_are_resident_after_use(model: Model) -> None:
    model.chat(sampling=GREEDY, max_tokens=2).ask("Hello")
    mapped, resident = mapped_weights([model.info.path])
    if resident is None:
        pytest.skip("this system does not tell what is resident")
    copied = model.plan.devices[0].weights > model.info.file_bytes  # by a matrix unit, in an order of its own
    # Of what was copied nothing needs to stay; what is looked up, like the embeddings, is read from the mapping.
    least, most = (0, 0.5) if copied else (0.9, 1)
    assert least * model.info.file_bytes < resident <= most * mapped
