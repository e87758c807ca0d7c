"""Decides what llama.cpp is compiled with where this processor and this compiler together get it wrong, or slow.

`-march=native` takes everything that the processor names. With Intel's matrix unit (AMX) that ends in a crash at the
first token where GCC compiles it: its `_tile_loadconfig` says that it reads eight bytes, so the rest of the
configuration that llama.cpp stores just before is dropped as dead (llama.cpp#20824, #26954). And some virtual machines
name the unit and do not let it be used. So a small program that does as llama.cpp does is compiled and run.

What is slow, and what helps, stands in `halves.h`.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

HALVES = Path(__file__).resolve().with_name("halves.h")

_PROGRAM = """\
#include <immintrin.h>
#include <cstdint>
#include <sys/syscall.h>
#include <unistd.h>
struct Tiles {
    uint8_t palette = 0, start = 0, reserved[14] = {0};
    uint16_t columns[16] = {0};
    uint8_t rows[16] = {0};
};
__attribute__((noinline)) static void configure() {  // As the last thing that a function does with its stack.
    alignas(64) Tiles tiles = {};
    tiles.palette = 1;
    tiles.rows[0] = 16; tiles.columns[0] = 64;
    tiles.rows[1] = 16; tiles.columns[1] = 64;
    tiles.rows[2] = 16; tiles.columns[2] = 64;
    _tile_loadconfig(&tiles);
}
int main() {
    const long request_permission = 0x1023, tile_data = 18;
    if (syscall(SYS_arch_prctl, request_permission, tile_data)) return 0;  // llama.cpp asks, too, and does without.
    configure();
    alignas(64) static int8_t ones[1024];
    alignas(64) static int32_t sums[256];
    for (int8_t &one : ones) one = 1;
    _tile_zero(0);
    _tile_loadd(1, ones, 64);
    _tile_loadd(2, ones, 64);
    _tile_dpbssd(0, 1, 2);
    _tile_stored(0, sums, 64);
    _tile_release();
    return sums[0] == 64 && sums[255] == 64 ? 0 : 1;
}
"""


@dataclass(frozen=True)
class Flags:
    """What the compilers of C and of C++ are told, and why they must be; empty where it only speeds things up."""

    reason: str = ""
    c: tuple[str, ...] = ()
    cxx: tuple[str, ...] = ()

    @property
    def cmake(self) -> list[str]:
        """The options of CMake that tell them."""
        told = {"C": self.c, "CXX": self.cxx}
        return [f"-DCMAKE_{language}_FLAGS={shlex.join(flags)}" for language, flags in told.items() if flags]


@functools.cache
def flags() -> Flags:
    """What to compile with on this machine. Takes a second where the processor names AMX, and no time elsewhere."""
    try:
        named = CPUINFO.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        named = []
    compiler = shutil.which(os.environ.get("CXX") or "c++")
    if compiler is None:
        return Flags()
    needed = _for_amx(compiler) if "amx_int8" in named else Flags()
    faster = ("-include", str(HALVES)) if "avx512_fp16" in named else ()
    return replace(needed, cxx=(*needed.cxx, *faster))


def _for_amx(compiler: str) -> Flags:
    if _computes(compiler):
        return Flags()
    if _computes(compiler, "-fno-dse"):
        reason = "this compiler drops the configuration of the processor's matrix unit (AMX), unless told not to."
        return Flags(reason, cxx=("-fno-dse",))
    reason = "the processor names a matrix unit (AMX), but a program that uses it fails: it is left out."
    return Flags(reason, ("-mno-amx-int8",), ("-mno-amx-int8",))


def _computes(compiler: str, *flags: str) -> bool:
    """Whether the program, compiled with these flags, computes what it should. Where it does not compile, llama.cpp
    leaves the unit out by itself."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "amx.cpp"), Path(folder, "amx")
        source.write_text(_PROGRAM, encoding="ascii")
        build = [compiler, "-std=c++17", "-O3", "-march=native", *flags, str(source), "-o", str(program)]
        if subprocess.run(build, capture_output=True, check=False).returncode != 0:
            return True
        return subprocess.run([program], capture_output=True, check=False).returncode == 0
