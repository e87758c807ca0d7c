#!/usr/bin/env python3
"""Compares the tensors of every golden, converted here and by llama.cpp's converter: names, shapes, types, bytes.

    python tools/compare_families.py LLAMA_CPP --python PYTHON [--type F32] [NAME ...]

LLAMA_CPP is a checkout, PYTHON one with torch and transformers. Both dialects of config.json are tried. The converter
knows tokenizers by a hash and would refuse the small one of the tests: it is told that it is GPT-2's. The last line of
stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A script finds only its own folder by itself.
sys.path.insert(0, str(ROOT))

from compare_gguf import different_tensors

from localllm.convert import convert
from localllm.gguf_file import read_header
from tests.convert.golden import Golden, goldens, write_checkpoint

SOURCE, OURS, THEIRS, ERROR = "tiny", "ours.gguf", "theirs.gguf", "error.txt"

REFERENCE = f"""
import runpy, sys
from pathlib import Path
checkout, work, kind = sys.argv[1:]
sys.path[:0] = [checkout, f"{{checkout}}/gguf-py"]
import conversion.base
conversion.base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
for case in sorted(Path(work).iterdir()):
    # Layers that predict further tokens are left out here.
    more = ["--no-mtp"] if case.name.startswith("qwen3-next") else []
    sys.argv = ["", str(case / "{SOURCE}"), "--outtype", kind, "--outfile", str(case / "{THEIRS}"), *more]
    try:
        runpy.run_path(f"{{checkout}}/convert_hf_to_gguf.py", run_name="__main__")
    except BaseException as error:
        (case / "{ERROR}").write_text(f"{{type(error).__name__}}: {{error}}")
"""
"""The reference for all cases in one process, so that torch is imported once."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, metavar="LLAMA_CPP")
    parser.add_argument("names", nargs="*", metavar="NAME", help="goldens; all of them by default")
    parser.add_argument("--python", required=True)
    parser.add_argument("--type", default="F32", choices=("F32", "F16", "BF16"))
    args = parser.parse_intermixed_args()
    chosen = [golden for golden in goldens() if not args.names or golden.name in args.names]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for golden in chosen:
            convert_both(golden, work, args.type)
        command = [args.python, "-c", REFERENCE, str(args.checkout), folder, args.type.lower()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = [compare(case) for case in sorted(work.iterdir())]
    counts = {"cases": len(found), "converted": found.count("the same") + found.count("differs")}
    print(json.dumps(counts | {"same": found.count("the same")}))
    return 0


def convert_both(golden: Golden, work: Path, kind: str) -> None:
    """Ours, from either dialect."""
    for dialect, config in (("new", golden.config), ("old", golden.old_config)):
        case = work / f"{golden.name}-{dialect}"
        convert(write_checkpoint(golden, case / SOURCE, config), case / OURS, type=kind)


def compare(case: Path) -> str:
    """Print what there is to say of a case, and return it in short."""
    if not (case / THEIRS).exists():
        print(f"{case.name}: the reference does not convert it: {(case / ERROR).read_text()[:120]}")
        return "not converted"
    lines = different_tensors(read_header(case / OURS), read_header(case / THEIRS))
    for line in lines:
        print(f"{case.name}: {line}")
    return "differs" if lines else "the same"


if __name__ == "__main__":
    sys.exit(main())
