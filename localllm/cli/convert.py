"""`localllm convert SOURCE`: a Hugging Face checkpoint becomes a quantized GGUF."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from localllm.cli import options

if TYPE_CHECKING:
    from tqdm import tqdm

    from localllm.convert import Conversion, Preview, Settings
    from localllm.convert.writer import Progress

EPILOG = """examples:
  localllm convert ./SmolLM2-135M-Instruct              writes SmolLM2-135M-Instruct-Q4_K_M.gguf here
  localllm convert ./my-model --type Q8_0 --outfile my-model.gguf
  localllm convert ./my-model --preview                 every tensor and the exact size; writes nothing
  localllm convert --list-types                         every quantization type, and which are fast on this CPU

SOURCE is a folder with config.json, one or several safetensors files and tokenizer.json. The file gets its name when it
is whole; a conversion that fails or is stopped leaves nothing behind. The tokenizer is proven: llama.cpp must give the
same token ids as the checkpoint's own on hundreds of texts, or nothing is written.
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
    parser.add_argument("source", type=Path, nargs="?", metavar="SOURCE", help="folder of the checkpoint")
    parser.add_argument("--outfile", type=Path, metavar="F", help="file to write (default: NAME-TYPE.gguf here)")
    parser.add_argument("--type", default="Q4_K_M", metavar="T", help="quantization type (default: Q4_K_M)")
    parser.add_argument("--list-types", action="store_true", help="show the quantization types and what they cost")
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")
    parser.add_argument("--preview", action="store_true", help="show what would be written, write nothing")
    parser.add_argument("--threads", type=options.whole, default=0, metavar="N", help="(default: every core)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    _add_type_flags(parser)
    options.add_log_flags(parser)
    parser.set_defaults(handle=handle, wrong_usage=parser.error)


def _add_type_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("types of tensors (default: the mixture of llama.cpp)")
    group.add_argument("--imatrix", type=Path, metavar="F", help="importance matrix; the smallest types need one")
    group.add_argument(
        "--tensor-type",
        type=_tensor_type,
        action="append",
        default=[],
        metavar="PATTERN=T",
        help="type of the tensors whose names hold PATTERN, a regular expression; can be repeated",
    )
    group.add_argument("--output-type", metavar="T", help="type of the output matrix")
    group.add_argument("--embedding-type", metavar="T", help="type of the token embeddings")
    group.add_argument("--pure", action="store_true", help="the same type for all matrices")
    group.add_argument(
        "--exact-source",
        action="store_true",
        help="quantize from the checkpoint's own numbers, not rounded to 16 bits as llama.cpp's converter does",
    )


def _tensor_type(value: str) -> tuple[str, str]:
    """`PATTERN=TYPE`; the pattern may hold `=` itself."""
    import re

    pattern, sign, kind = value.rpartition("=")
    try:
        re.compile(pattern)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{pattern!r} is no regular expression: {error}") from error
    if not (pattern and sign and kind):
        raise argparse.ArgumentTypeError(f"{value!r} is not PATTERN=TYPE: ffn_down=Q6_K, say")
    return pattern, kind


def handle(args: argparse.Namespace) -> int:
    """Convert, or show what would be written."""
    from localllm import convert

    options.route_log(args)
    if args.list_types:
        return _list_types(args.json)
    if args.source is None:
        args.wrong_usage("the following arguments are required: SOURCE")
    if args.preview:
        preview = convert.preview(args.source, settings=_settings(args))
        target = args.outfile or convert.default_outfile(args.source, preview.type)
        _announce(preview, target)
        if args.json:
            print(_preview_json(preview, target))
        else:
            _print_tensors(preview, sys.stdout)
        return 0
    with _stopped_by_sigterm(), _Bar() as bar:
        result = convert.convert(
            args.source,
            args.outfile,
            settings=_settings(args),
            force=args.force,
            threads=args.threads,
            progress=bar.update,
            announce=_announce,
        )
    print(f"done in {result.seconds:.1f} s", file=sys.stderr)
    print(_result_json(result) if args.json else result.outfile)
    return 0


def _list_types(as_json: bool) -> int:
    from localllm.cli import type_table
    from localllm.convert.listing import list_types

    print(type_table.as_json(list_types()) if as_json else type_table.as_text(list_types()))
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    """The options of the conversion itself."""
    from localllm.convert import Settings

    return Settings(
        type=args.type,
        imatrix=args.imatrix,
        tensor_types=tuple(args.tensor_type),
        output_type=args.output_type,
        embedding_type=args.embedding_type,
        pure=args.pure,
        exact_source=args.exact_source,
    )


class _stopped_by_sigterm:  # noqa: N801 - used as a statement
    """Let SIGTERM end the block like Ctrl-C does, so that the unfinished file is removed."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, self._stop)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    @staticmethod
    def _stop(number: int, _frame: object) -> None:
        sys.exit(128 + number)


class _Bar:
    """A progress bar on stderr with weights per second and the time left; drawn from the first call on."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def update(self) -> Progress:
        """What `convert` calls."""
        return self._update

    def _update(self, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=total, unit=" weights", unit_scale=True, file=sys.stderr, dynamic_ncols=True)
        self._bar.update(done - self._bar.n)


def _announce(preview: Preview, target: Path) -> None:
    """What will be written, on stderr: in people's view before the progress bar, out of programs' way."""
    mib = preview.bytes / 2**20
    print(f"{preview.source} ({preview.architecture}, {preview.parameters:,} weights)", file=sys.stderr)
    print(f"  -> {target}, {preview.type}: {preview.bytes:,} bytes ({mib:,.1f} MiB)", file=sys.stderr)
    types = ", ".join(f"{count} {name}" for name, count in preview.types.items())
    print(f"  tensors: {types}", file=sys.stderr)
    print(f"  tokenizer: the same token ids as the checkpoint's on {preview.tokenizer.texts} texts", file=sys.stderr)
    for note in preview.notes:
        print(f"note: {note}", file=sys.stderr)


def _print_tensors(preview: Preview, out: TextIO) -> None:
    for tensor in preview.tensors:
        shape = " x ".join(map(str, tensor.shape))
        print(f"{tensor.name:40} {tensor.type:8} {shape:>24} {tensor.bytes:>16,}", file=out)
    print(f"{'whole file':40} {preview.type:8} {'':>24} {preview.bytes:>16,}", file=out)


def _document(preview: Preview, outfile: Path) -> dict[str, object]:
    return {
        "outfile": str(outfile),
        "bytes": preview.bytes,
        "type": preview.type,
        "types": preview.types,
        "parameters": preview.parameters,
        "verification": {"tokenizer": {"texts": preview.tokenizer.texts, "equal": True}},
        "notes": list(preview.notes),
    }


def _result_json(result: Conversion) -> str:
    import json

    document = _document(result.preview, result.outfile)
    verification = {"tokenizer": {"texts": result.preview.tokenizer.texts, "equal": True}, "tensors": result.tensors}
    return json.dumps({**document, "seconds": round(result.seconds, 3), "verification": verification})


def _preview_json(preview: Preview, target: Path) -> str:
    import json
    from dataclasses import asdict

    tensors = [asdict(tensor) for tensor in preview.tensors]
    return json.dumps({**_document(preview, target), "tensors": tensors})
