"""Layers on another device, tested without a GPU: llama.cpp's RPC backend makes a second process a device.

Both programs run in processes of their own: a device that is registered stays registered.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers import worker

CLIENT = """
import ctypes, json, sys
from dataclasses import asdict
from pathlib import Path
from localllm.native import lib
from localllm.runtime.model import Model
from localllm.runtime.plan import make_plan
from localllm.runtime.types import Message, Options, Sampling
lib.llama()
add = lib.bind(lib.ggml("ggml-rpc"), "ggml_backend_rpc_add_server", ctypes.c_void_p, ctypes.c_char_p)
lib.bind(lib.ggml("ggml"), "ggml_backend_register", None, ctypes.c_void_p)(add(sys.argv[1].encode()))
layers = None if sys.argv[3] == "auto" else int(sys.argv[3])
options = Options(n_ctx=512, gpu_layers=layers, mmap=False)
plan = make_plan(Path(sys.argv[2]), options)
with Model.load(Path(sys.argv[2]), options) as model:
    reply = model.reply([Message("user", "Name the capital of France.")], sampling=Sampling(temperature=0))
    print(json.dumps({"text": "".join(reply), "layers": plan.gpu_layers, "planned": [asdict(d) for d in plan.devices],
                      "real": [asdict(d) for d in model.memory().devices]}))
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with worker() as running:
        yield running.endpoint


@pytest.mark.slow
@pytest.mark.parametrize("layers", ["0", "12", "auto"])
def test_layers_go_where_the_plan_says(endpoint: str, smollm2: Path, layers: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, endpoint, str(smollm2), layers], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["text"] == "The capital of France is Paris."
    assert found["layers"] == {"0": 0, "12": 12, "auto": 31}[layers]
    sizes = ("name", "kind", "weights", "kv", "compute", "layers")
    planned, real = ([{size: part[size] for size in sizes} for part in found[key]] for key in ("planned", "real"))
    assert planned == real
    worker, cpu = planned
    assert worker["layers"] == found["layers"]
    assert worker["layers"] + cpu["layers"] == 31
    assert (worker["kv"] > 0) == (found["layers"] > 0)
