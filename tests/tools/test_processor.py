"""What llama.cpp must be compiled with, decided from a program that a compiler on PATH makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from installer import processor
from installer.processor import Caution


@pytest.fixture(autouse=True)
def _decide_anew() -> Iterator[None]:
    processor.caution.cache_clear()
    yield
    processor.caution.cache_clear()


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
    assert processor.caution() == Caution()


def test_a_compiler_that_drops_the_configuration_is_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f'case "$*" in *-fno-dse*) {makes("exit 0")} ;; *) {makes("kill -SEGV $$")} ;; esac'
    machine(tmp_path, monkeypatch, flags="amx_int8", compiler=told)
    caution = processor.caution()
    assert caution.cmake == ("-DCMAKE_CXX_FLAGS=-fno-dse",)
    assert "AMX" in caution.reason


def test_a_unit_that_cannot_be_used_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(tmp_path, monkeypatch, flags="amx_int8", compiler=makes("kill -ILL $$"))
    assert "-DCMAKE_CXX_FLAGS=-mno-amx-int8" in processor.caution().cmake
