"""numpy beside llama.cpp."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "seen"),
    [({}, "False 20 None"), ({"OPENBLAS_THREAD_TIMEOUT": "26"}, "False 26 26")],
    ids=["open", "chosen"],
)
def test_numpy_is_imported_when_it_is_needed_and_its_threads_sleep(
    smollm2: Path, given: dict[str, str], seen: str
) -> None:
    """Unless somebody chose how long they spin; and nothing of it stays in the environment."""
    program = """
import os, sys
class Watch:
    def find_spec(self, name, *rest):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_THREAD_TIMEOUT"), end=" ")
sys.meta_path.insert(0, Watch())
import localllm
with localllm.load(sys.argv[1], n_ctx=256) as model:
    "".join(model.complete("One, two,", max_tokens=2))
    print("numpy" in sys.modules, end=" ")
    model.logits([1, 2])
print(os.environ.get("OPENBLAS_THREAD_TIMEOUT"))
"""
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_THREAD_TIMEOUT"}
    done = subprocess.run(
        [sys.executable, "-c", program, smollm2],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, **given},
    )
    assert done.stdout == f"{seen}\n"
