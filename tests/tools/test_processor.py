"""What llama.cpp must be compiled with, decided from a program that a compiler on PATH makes."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from installer import processor
from installer.processor import HALVES, Flags


@pytest.fixture(autouse=True)
def _decide_anew() -> Iterator[None]:
    processor.flags.cache_clear()
    yield
    processor.flags.cache_clear()


def machine(folder: Path, monkeypatch: pytest.MonkeyPatch, *, flags: str, compiler: str) -> None:
    """A processor that names `flags`, and a compiler: a script that has the path of its output in `$out`."""
    (folder / "cpuinfo").write_text(f"processor: 0\nflags: fpu sse2 {flags}\n")
    script = folder / "compiler"
    script.write_text(f'#!/bin/sh\nfor out; do :; done\n{compiler}\nchmod +x "$out"\n')
    script.chmod(0o755)
    monkeypatch.setattr(processor, "CPUINFO", folder / "cpuinfo")
    monkeypatch.setenv("CXX", str(script))


def makes(program: str) -> str:
    return f"printf '#!/bin/sh\n{program}\n' > \"$out\""


@pytest.mark.parametrize(
    ("flags", "compiler"),
    [
        ("avx2", makes("kill -SEGV $$")),
        ("amx_tile amx_int8", makes("exit 0")),
        ("amx_tile amx_int8", "exit 1"),
    ],
    ids=["a processor without it", "it works", "a compiler that does not know it"],
)
def test_nothing_to_be_careful_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, compiler: str
) -> None:
    machine(tmp_path, monkeypatch, flags=flags, compiler=compiler)
    assert processor.flags() == Flags()


def test_a_compiler_that_drops_the_configuration_is_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f'case "$*" in *-fno-dse*) {makes("exit 0")} ;; *) {makes("kill -SEGV $$")} ;; esac'
    machine(tmp_path, monkeypatch, flags="amx_int8", compiler=told)
    flags = processor.flags()
    assert flags.cmake == ["-DCMAKE_CXX_FLAGS=-fno-dse"]
    assert "AMX" in flags.reason


def test_a_unit_that_cannot_be_used_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(tmp_path, monkeypatch, flags="amx_int8", compiler=makes("kill -ILL $$"))
    assert processor.flags().cmake == ["-DCMAKE_C_FLAGS=-mno-amx-int8", "-DCMAKE_CXX_FLAGS=-mno-amx-int8"]


def test_where_halves_are_computed_with_llama_cpp_is_compiled_with_shorter_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(tmp_path, monkeypatch, flags="avx512_fp16", compiler="exit 1")
    flags = processor.flags()
    assert (flags.reason, flags.cxx) == ("", ("-include", str(HALVES)))
    (option,) = flags.cmake
    assert shlex.split(option.removeprefix("-DCMAKE_CXX_FLAGS=")) == list(flags.cxx)


def test_steps_are_shortened_before_the_file_that_uses_them(tmp_path: Path) -> None:
    (tmp_path / "simd-mappings.h").write_text("#pragma once\n#define GGML_F16_STEP 128\n#define GGML_F16_EPR 32\n")
    (tmp_path / "file.cpp").write_text('#include "simd-mappings.h"\nint step = GGML_F16_STEP;\n')

    def preprocessed(*options: str) -> str:
        command = ["c++", "-E", "-P", "-I", ".", *options, "file.cpp"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
        return done.stdout.split("step =")[1].strip()

    halves = ("-include", str(HALVES))
    assert preprocessed() == "128;"
    assert preprocessed("-U__AVX512FP16__", *halves) == "128;"
    assert preprocessed("-D__AVX512FP16__", *halves) == "32;"
    (tmp_path / "simd-mappings.h").write_text("#pragma once\n#define GGML_F16_STEP 64\n#define GGML_F16_EPR 32\n")
    assert preprocessed("-D__AVX512FP16__", *halves) == "64;", "what llama.cpp changes is left alone"
