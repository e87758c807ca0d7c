"""`localllm convert SOURCE`: a Hugging Face checkpoint becomes a quantized GGUF."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.cli import convert_flags, convert_result, options, values
from localllm.cli.bar import Bar
from localllm.cli.interrupt import stopped_by_signals
from localllm.cli.report import check_report, write_report
from localllm.cli.sources import note, opened
from localllm.errors import DownloadFailed

if TYPE_CHECKING:
    from localllm.convert import Conversion, Prepared, Preview
    from localllm.convert.files import Files

EPILOG = """examples:
  localllm convert ./SmolLM2-135M-Instruct              writes SmolLM2-135M-Instruct-Q4_K_M.gguf here
  localllm convert ./my-model --type Q8_0 --outfile my-model.gguf
  localllm convert ./my-model --preview                 every tensor and the exact size; writes nothing
  localllm convert ./my-model --fit 6GB --ctx 8192      the best type that runs in so much memory
  localllm convert org/name --preview                   a model of the hub: what it would become, before downloading it
  localllm convert --list-types                         every quantization type, and which are fast on this CPU

SOURCE is a folder with config.json, a tokenizer and one or several safetensors files, or pytorch_model.bin; or a
repo of the hub with these: org/name, org/name@revision. A folder of that name goes before the repo. HF_TOKEN, HF_HOME,
HF_ENDPOINT and HF_HUB_OFFLINE count as they do for the hub's own programs. SOURCE can also be a GGUF: it is quantized
anew, which loses more than from the original checkpoint. The file gets its name when it is whole. A conversion that
fails or is stopped leaves nothing behind, unless --resume keeps what is done; --resume goes on as well with one that
was killed. The tokenizer is read from tokenizer.json, or else from tekken.json, tokenizer.model, vocab.json with
merges.txt, or vocab.txt. Token ids are compared with the checkpoint's own tokenizer on thousands of texts, and nothing
is written where they differ, with two exceptions, which are told and counted: what llama.cpp does with every file of a
kind (accents in WordPiece, spaces around special tokens), and --allow-tokenizer-mismatch.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `convert` command."""
    parser = commands.add_parser(
        "convert",
        help="make a quantized GGUF of a Hugging Face checkpoint",
        description="Convert a Hugging Face checkpoint to a GGUF, quantized in the same pass, in little memory.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", nargs="?", metavar="SOURCE", help="folder of the checkpoint, org/name of the hub, or a GGUF"
    )
    parser.add_argument("--outfile", type=Path, metavar="F", help="file to write (default: NAME-TYPE.gguf here)")
    parser.add_argument("--type", metavar="T", help="quantization type (default: Q4_K_M)")
    parser.add_argument("--list-types", action="store_true", help="show the quantization types and what they cost")
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with a conversion that was interrupted, and keep what is done of one",
    )
    parser.add_argument("--preview", action="store_true", help="show what would be written, write nothing")
    parser.add_argument(
        "--keep-download", action="store_true", help="keep what is downloaded from the hub in its cache (HF_HOME)"
    )
    parser.add_argument("--threads", type=values.whole, default=0, metavar="N", help="(default: every core)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    convert_flags.add_flags(parser)
    options.add_log_flags(parser)
    parser.set_defaults(handle=handle, wrong_usage=parser.error)


def handle(args: argparse.Namespace) -> int:
    """Convert, or show what would be written."""
    from localllm import convert

    options.route_log(args)
    if args.list_types:
        return _list_types(args.json)
    if args.source is None:
        args.wrong_usage("the following arguments are required: SOURCE")
    if args.fit and args.type:
        args.wrong_usage("--fit chooses the type: leave out --type")
    if args.lora and args.resume:
        args.wrong_usage("an adapter is converted in a moment: leave out --resume")
    if args.preview and (args.report or args.resume):
        args.wrong_usage("--preview writes nothing: leave out --report and --resume")
    if args.report:
        check_report(args.report, args.outfile)
    if args.lora:
        return _adapter(args)
    settings, choose = convert_flags.settings(args), None
    if args.fit:
        # With 16 bits nothing is refused that a smaller type may need.
        settings, choose = replace(settings, type="BF16"), partial(_fitted, args)
    place = opened(args.source, keep_download=args.keep_download)
    if args.preview:
        preview = convert.preview(place, settings=settings, choose=choose)
        _show(preview, args.outfile or convert.default_outfile(place, preview.type), args.json)
        return 0
    told = {"settings": settings, "choose": choose, "resume": args.resume, "remark": note}
    return _convert(args, place, partial(convert.convert, place, args.outfile, **told))


def _list_types(as_json: bool) -> int:
    from localllm.cli import type_table
    from localllm.convert.listing import list_types

    print(type_table.as_json(list_types()) if as_json else type_table.as_text(list_types()))
    return 0


def _adapter(args: argparse.Namespace) -> int:
    """Convert a LoRA adapter, or show what would be written."""
    from localllm import convert

    kind = args.type or "F32"
    if convert_flags.settings(args) != convert.Settings(type=args.type or convert.Settings.type) or args.fit:
        args.wrong_usage("of the options for models only --type counts with --lora: F32, F16, BF16 or Q8_0")
    base = opened(args.source)
    if args.preview:
        with convert.prepare_adapter(args.lora, base, kind) as prepared:
            _show(
                prepared.preview, args.outfile or convert.default_outfile(args.lora, prepared.preview.type), args.json
            )
        return 0
    conversion = partial(convert.convert_adapter, args.lora, base, args.outfile, type=kind)
    return _convert(args, args.lora, conversion)


def _show(preview: Preview, target: Path, as_json: bool) -> None:
    convert_result.announce(preview, target)
    if as_json:
        print(json.dumps(convert_result.preview_document(preview, target)))
    else:
        convert_result.print_tensors(preview, sys.stdout)


def _convert(args: argparse.Namespace, source: Path | Files, conversion: Callable[..., Conversion]) -> int:
    """Run the conversion with what every kind of it takes, and say what came of it."""
    with stopped_by_signals(), Bar(source) as bar:
        try:
            result = conversion(
                force=args.force, threads=args.threads, progress=bar.update, announce=convert_result.announce
            )
        except (KeyboardInterrupt, SystemExit, DownloadFailed):
            if args.resume:
                note("what is done is kept; the same command with --resume goes on with it")
            raise
    convert_result.proven(result.verification)
    if args.report:
        write_report(args.report, convert_result.report_document(result), "The model is written.")
    print(f"done in {result.seconds:.1f} s", file=sys.stderr)
    if not args.lora:
        print(convert_result.next_step(result.outfile), file=sys.stderr)
    print(json.dumps(convert_result.result_document(result)) if args.json else result.outfile)
    return 0


def _fitted(args: argparse.Namespace, prepared: Prepared) -> Prepared:
    """The conversion to the best type that fits what `--fit` allows; says what it is and what the next one needs."""
    from localllm import api
    from localllm.runtime.types import mib

    found = api.fit_prepared(prepared, args.fit, n_ctx=args.ctx, kv_type=args.kv_type)
    about = "" if found.need.exact else "about "
    chosen = f"{found.type} needs {about}{mib(found.need.bytes)} with a context of {found.need.n_ctx:,} tokens"
    better = ", the most there is to keep"
    if found.next_type and found.next_need:
        better = f"; the next better type, {found.next_type}, would need {about}{mib(found.next_need.bytes)}"
    print(f"fits in {mib(args.fit)}: {chosen}{better}", file=sys.stderr)
    return prepared.with_type(found.type)
