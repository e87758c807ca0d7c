"""`localllm verify FILE`: whether a GGUF is whole, and whether it is the model that it is said to be made of."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from localllm.cli import options, values, verify_result
from localllm.cli.bar import Bar
from localllm.cli.report import check_report, write_report
from localllm.cli.sources import opened

EPILOG = """examples:
  localllm verify model-Q4_K_M.gguf                      the file by itself: nothing damaged, and llama.cpp takes it
  localllm verify model-Q4_K_M.gguf --against ./model    is it this checkpoint? every weight, every key, the tokenizer
  localllm verify model-IQ2_M.gguf --against ./model --imatrix imatrix.gguf
  localllm verify part-00001-of-00003.gguf --against model-F16.gguf --json

Without --against it reads every block, but cannot see a byte that was changed into another valid one. With it every
tensor is quantized again from the source: the bytes must be the same, to the last one. Where they cannot be, because
an importance matrix is not here or another program made the file, a tensor must be off by no more than its type loses.
SOURCE is the folder of a checkpoint, a GGUF, or a repo of the hub. Exit code: 0 nothing is wrong, 1 something is.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `verify` command."""
    parser = commands.add_parser(
        "verify",
        help="check that a GGUF is whole, and that it is the model it was made of",
        description="Check a GGUF by itself, or against the checkpoint it was made of.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="MODEL", help="path, catalogue name or model on this machine")
    parser.add_argument("--against", metavar="SOURCE", help="folder of the checkpoint, a GGUF, or org/name[@revision]")
    parser.add_argument("--imatrix", type=Path, metavar="F", help="importance matrix with which it was quantized")
    parser.add_argument(
        "--hash",
        action="store_true",
        help="read the source's files once more and compare their SHA-256 with those that the file records",
    )
    parser.add_argument("--report", type=Path, metavar="F", help="write the proof, tensor by tensor, as JSON to F")
    parser.add_argument("--threads", type=values.whole, default=0, metavar="N", help="(default: every core)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    options.add_log_flags(parser)
    parser.set_defaults(handle=handle, wrong_usage=parser.error)


def handle(args: argparse.Namespace) -> int:
    """Check the file, and say what was found."""
    from localllm import library
    from localllm.convert import verify_file

    if args.against is None and (args.imatrix or args.hash):
        args.wrong_usage("--imatrix and --hash need --against SOURCE")
    if args.report:
        check_report(args.report)
    path = library.resolve(args.file)
    options.route_log(args)
    against = None if args.against is None else opened(args.against)
    with Bar(against, "B") as bar:
        proof = verify_file(
            path,
            against,
            imatrix=args.imatrix,
            hash_source=args.hash,
            threads=args.threads,
            progress=bar.update,
        )
    verify_result.show(proof, sys.stderr if args.json else sys.stdout)
    if args.report:
        write_report(args.report, verify_result.report_document(proof), "The file was checked.")
    if args.json:
        print(json.dumps(verify_result.document(proof)))
    return 0 if proof.ok else 1
