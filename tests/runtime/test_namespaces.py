"""Workers on other machines, as near as one machine comes to them: each in a network namespace of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from localllm.runtime.model import Model
from localllm.runtime.types import Message
from tests.runtime.conftest import GREEDY

UNSHARE = ["unshare", "--map-root-user", "--net", "--mount"]


def _why_not() -> str:
    """Why this machine cannot make network namespaces; empty where it can."""
    for program in ("unshare", "ip", "mount"):
        if shutil.which(program) is None:
            return f"there is no program {program}"
    tried = subprocess.run(
        [*UNSHARE, "sh", "-c", "mount -t tmpfs tmpfs /run && ip netns add a && ip link add v type veth peer netns a"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tried.stderr.strip() if tried.returncode else ""


@pytest.mark.slow
def test_a_model_is_split_over_workers_elsewhere(smollm2: Path, model: Model) -> None:
    reason = _why_not()
    if reason:
        pytest.skip(f"no network namespaces here: {reason}")
    program = [sys.executable, "-m", "tests.runtime.in_namespaces", str(smollm2)]
    done = subprocess.run([*UNSHARE, *program], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [endpoint.rpartition(":")[0] for endpoint in found["endpoints"]] == ["10.77.1.2", "10.77.2.2"]
    assert found["planned"] == found["took"]
    by_place = {place: layers for place, layers, *_ in found["took"]}
    assert by_place == {found["endpoints"][0]: 5, found["endpoints"][1]: 10, "": 16}
    ours = model.reply([Message("user", "Name the capital of France.")], sampling=GREEDY)
    assert found["text"] == "".join(ours)
