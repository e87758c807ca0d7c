"""The libraries are the ones that libllama uses, and its log goes where it is sent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from localllm.native import devices, lib, log


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/maps")
@pytest.mark.parametrize("name", ["ggml", "ggml-base", "ggml-cpu"])
def test_each_ggml_library_is_loaded_once(name: str) -> None:
    devices.devices()
    lib.ggml(name)
    maps = Path("/proc/self/maps").read_text().splitlines()
    loaded = {line.split()[-1] for line in maps if Path(line.split()[-1]).name.startswith(f"lib{name}.")}
    assert len(loaded) == 1


def test_a_library_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="libggml-nothing"):
        lib.ggml("ggml-nothing")


def test_the_log_goes_to_the_sink_and_problems_are_kept(tmp_path: Path) -> None:
    program = """
import sys
import threading
from pathlib import Path
from localllm.native import handles, lib, log
lines = []
log.set_log(lambda level, line: lines.append(line))
lib.llama()
Path(sys.argv[1]).write_text("not a model")
try:
    handles.open_model(Path(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, log.recent_problems() != [], any("gguf" in line for line in lines))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "x.gguf")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "BadModelFile True True\n"
    assert done.stderr == ""


@pytest.mark.slow
def test_the_whole_package_can_still_be_imported_beside_us() -> None:
    program = "from localllm.native import lib; lib.llama(); import llama_cpp; print(llama_cpp.Llama.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "Llama\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "schedstat", "seen"),
    [
        ({}, True, "active 300000"),
        ({}, False, "None 1000"),
        ({"GOMP_SPINCOUNT": "7"}, True, "None 7"),
        ({"OMP_WAIT_POLICY": "passive"}, True, "passive None"),
    ],
)
def test_openmp_is_loaded_with_counts_unless_told_otherwise(given: dict[str, str], schedstat: bool, seen: str) -> None:
    program = f"""
import importlib, os
from pathlib import Path
from localllm.native import lib
real, seen = importlib.import_module, []
names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
importlib.import_module = lambda name: (seen.append([os.environ.get(name) for name in names]), real(name))[1]
exists = Path.exists
Path.exists = lambda path: {schedstat} if path.name == "schedstat" else exists(path)
before = dict(os.environ)
lib.llama()
assert dict(os.environ) == before
print(*seen[0])
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GOMP_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**environment, **given}
    )
    assert done.stdout == f"{seen}\n"


def test_each_thread_keeps_its_own_problems_and_lines() -> None:
    log.forget_problems()
    with log.captured() as lines:
        other = threading.Thread(target=lambda: log.heard(log.ERROR, "theirs\n"))
        other.start()
        other.join()
        lib.apart(lambda: log.heard(log.ERROR, "ours\n"))
    assert log.recent_problems() == ["ours"]
    assert lines == ["ours\n"]


def test_what_is_done_apart_knows_the_machine_that_is_assumed() -> None:
    machine = [devices.Device("CPU", "", "cpu", 1 << 30, 2 << 30, handle=0)]
    with devices.assumed(machine):
        assert lib.apart(devices.devices) == machine
    assert lib.apart(devices.devices) != machine
