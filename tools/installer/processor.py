"""Decides what llama.cpp must be compiled with, because this processor and this compiler together get it wrong.

`-march=native` takes everything that the processor names. With Intel's matrix unit (AMX) that ends in a crash at the
first token where GCC compiles it: its `_tile_loadconfig` says that it reads eight bytes, so the rest of the
configuration that llama.cpp stores just before is dropped as dead (llama.cpp#20824, #26954). And some virtual machines
name the unit and do not let it be used. So a small program that does as llama.cpp does is compiled and run.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

WITHOUT_AMX = ("-DCMAKE_C_FLAGS=-mno-amx-int8", "-DCMAKE_CXX_FLAGS=-mno-amx-int8")

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
class Caution:
    """Options for CMake, and why they are needed; empty when nothing is wrong."""

    reason: str = ""
    cmake: tuple[str, ...] = ()


@functools.cache
def caution() -> Caution:
    """What to compile with on this machine. Takes a second where the processor names AMX, and no time elsewhere."""
    try:
        named = "amx_int8" in CPUINFO.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        named = False
    compiler = shutil.which(os.environ.get("CXX") or "c++")
    if not named or compiler is None or _computes(compiler):
        return Caution()
    if _computes(compiler, "-fno-dse"):
        reason = "this compiler drops the configuration of the processor's matrix unit (AMX), unless told not to."
        return Caution(reason, ("-DCMAKE_CXX_FLAGS=-fno-dse",))
    reason = "the processor names a matrix unit (AMX), but a program that uses it fails: it is left out."
    return Caution(reason, WITHOUT_AMX)


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
