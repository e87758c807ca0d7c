"""Flags that several commands share: how a model is loaded, where the log goes."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localllm.runtime.options import Options

# The same as in localllm.runtime, which a test compares: importing its modules here would cost
# `--help` its speed.
MAX_THREADS, LARGEST_SEED = 512, (1 << 32) - 2
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
WINDOWS = ("stop", "drop-oldest-turns", "shift")

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {f"{unit}I": 1 << (10 * power) for power, unit in enumerate("KMGT", 1)}


def whole(text: str) -> int:
    """A whole number from 0 on."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def positive(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def not_negative(text: str) -> float:
    """A number from 0 on."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return number


def tokens(text: str) -> int:
    """A number of tokens that llama.cpp can count."""
    number = whole(text)
    if number >= 1 << 31:
        raise argparse.ArgumentTypeError(f"{number} is more than llama.cpp can count")
    return number


def threads(text: str) -> int:
    """A number of threads that ggml can start."""
    number = whole(text)
    if number > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{number} is more than {MAX_THREADS}")
    return number


def batch(text: str) -> int:
    """A number of tokens, at least 1."""
    positive(text)
    return tokens(text)


def seed(text: str) -> int:
    """A seed: the number after the largest one means "draw one" to llama.cpp."""
    number = whole(text)
    if number > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{number} is more than {LARGEST_SEED}")
    return number


def byte_count(text: str) -> int:
    """A number of bytes as people write it: `6GB` and `6G` are 6e9, `6GiB` is 6 * 2**30."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?I?)B?", text.strip().upper())
    if match is None or match.group(2) not in _UNITS or float(match.group(1)) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of memory: 6GB or 5.5GiB, say")
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def room(text: str) -> int:
    """A number of bytes, or 0 for none."""
    return 0 if text.strip() == "0" else byte_count(text)


def kv_type(text: str) -> str:
    """The type of the KV cache, or K/V, or `auto`."""
    if text == "auto":
        return text
    k, _, v = text.partition("/")
    for kind in (k, v or k):
        if kind not in KV_TYPES:
            raise argparse.ArgumentTypeError(f"{kind!r} is none of {', '.join(KV_TYPES)}")
    return text


def proportions(text: str) -> tuple[float, ...]:
    """`3,1`: proportions, not all 0."""
    found = tuple(not_negative(part) for part in text.split(","))
    if not sum(found):
        raise argparse.ArgumentTypeError(f"{text!r} leaves out every device")
    return found


def layers(text: str) -> int | None:
    """A number of layers, or `auto` as None."""
    return None if text == "auto" else whole(text)


def adapter(text: str) -> tuple[str, float]:
    """FILE or FILE=SCALE."""
    path, equals, scale = text.rpartition("=")
    try:
        return (path, float(scale)) if equals else (text, 1.0)
    except ValueError:
        return text, 1.0  # a name with an =


def endpoint(text: str) -> str:
    """HOST:PORT of a worker."""
    from localllm.native.rpc import parse_endpoint

    parse_endpoint(text)
    return text


for _parse, _name in (
    (whole, "whole number"),
    (positive, "positive number"),
    (fraction, "fraction"),
    (not_negative, "number"),
    (tokens, "number of tokens"),
    (batch, "number of tokens"),
    (threads, "number of threads"),
    (seed, "seed"),
    (room, "number of bytes"),
    (byte_count, "number of bytes"),
    (layers, "number of layers"),
    (endpoint, "HOST:PORT"),
    (adapter, "FILE[=SCALE]"),
    (kv_type, "type of the KV cache"),
    (proportions, "proportions"),
):
    _parse.__name__ = _name  # argparse names the type of a wrong value by it


def add_engine_flags(parser: argparse.ArgumentParser, *, kv_disk: str = "0") -> None:
    """The flags of every command that loads a model. `kv_disk` is the default of the flag of that name."""
    parser.set_defaults(usage_error=parser.error)
    group = parser.add_argument_group("engine")
    group.add_argument("--ctx", type=tokens, default=0, metavar="N", help="context in tokens (default: chosen)")
    group.add_argument(
        "--threads",
        type=threads,
        default=0,
        metavar="N",
        help="CPU threads (default: physical cores we may use, unless tuned)",
    )
    add_gpu_layers_flag(group)
    group.add_argument(
        "--split",
        type=proportions,
        default=(),
        metavar="A,B",
        help="how devices share the layers (default: by what fits)",
    )
    group.add_argument(
        "--cpu-moe",
        type=layers,
        default=None,
        metavar="N|auto",
        help="keep the experts of the first N layers in RAM (default: auto, as few as possible)",
    )
    group.add_argument(
        "--kv-type",
        type=kv_type,
        default="auto",
        metavar="K[/V]",
        help=f"type of the KV cache, or of K and V apart: {', '.join(KV_TYPES)} (default: auto, f16 unless tuned)",
    )
    group.add_argument(
        "--kv-ram",
        type=room,
        default=512 << 20,
        metavar="SIZE",
        help="RAM for conversations that have to leave the KV cache (default: 512MiB)",
    )
    group.add_argument(
        "--kv-disk",
        type=room,
        default=kv_disk,
        metavar="SIZE",
        help="room on disk for what was computed of conversations, so that one that is opened again is not computed "
        f"again (default: {kv_disk})",
    )
    group.add_argument(
        "--window",
        choices=WINDOWS,
        default="stop",
        help="when the context is full: end the answer, leave out the oldest turns, or shift the oldest tokens out "
        "(default: stop)",
    )
    group.add_argument(
        "--lora",
        type=adapter,
        action="append",
        default=[],
        metavar="FILE[=SCALE]",
        help="a LoRA adapter, and how much it counts (default: 1); may be given several times",
    )
    add_worker_flag(group)
    group.add_argument(
        "--retry-locally",
        action="store_true",
        help="if a worker goes away, load the model again without workers and go on",
    )
    group.add_argument(
        "--draft",
        default="",
        metavar="ngram|MODEL|off",
        help="guess tokens for the model to check several at once, from the text where it repeats or by a small model "
        "of the same family; the answers are the same (default: off unless tuned)",
    )
    group.add_argument("--batch", type=batch, default=2048, metavar="N", help="tokens per call (default: 2048)")
    group.add_argument(
        "--ubatch", type=batch, default=0, metavar="N", help="tokens computed at once (default: 512 unless tuned)"
    )
    group.add_argument(
        "--flash-attention",
        choices=("auto", "on", "off"),
        default="auto",
        help="(default: auto, llama.cpp decides unless tuned)",
    )
    group.add_argument("--no-tuned", action="store_true", help="do not use what `localllm tune` found for this model")
    group.add_argument("--mlock", action="store_true", help="keep the weights from being swapped out")
    group.add_argument("--no-mmap", action="store_true", help="read the weights instead of mapping the file")


def add_gpu_layers_flag(parser: argparse._ActionsContainer) -> None:
    """`--gpu-layers`."""
    parser.add_argument(
        "--gpu-layers",
        type=layers,
        default=None,
        metavar="N|auto",
        help="layers to offload to the GPU, the output layer counts as one (default: auto, as many as fit)",
    )


def add_worker_flag(parser: argparse._ActionsContainer) -> None:
    """`--worker`."""
    parser.add_argument(
        "--worker",
        type=endpoint,
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="a `localllm worker` that takes layers as a GPU does; may be given several times",
    )


def _draft(name: str) -> str:
    """Who drafts, a model by its path."""
    if name in ("", "off", "ngram"):
        return name
    from localllm import library

    return str(library.resolve(name))


def engine_options(args: argparse.Namespace) -> Options:
    """The engine flags as `Options`; what does not go together is wrong usage."""
    from localllm.runtime.options import Options

    try:
        return Options(
            n_ctx=args.ctx,
            threads=args.threads,
            gpu_layers=args.gpu_layers,
            kv_type=args.kv_type,
            kv_ram=args.kv_ram,
            kv_disk=args.kv_disk,
            window=args.window,
            draft=_draft(args.draft),
            workers=tuple(args.worker),
            split=args.split,
            cpu_moe=args.cpu_moe,
            retry_locally=args.retry_locally,
            tuned=not args.no_tuned,
            lora=tuple(args.lora),
            n_batch=args.batch,
            n_ubatch=min(args.ubatch, args.batch),
            flash_attention={"auto": None, "on": True, "off": False}[args.flash_attention],
            mmap=not args.no_mmap,
            mlock=args.mlock,
        )
    except ValueError as error:  # flags that do not go together
        args.usage_error(str(error))
        raise


def add_log_flags(parser: argparse.ArgumentParser) -> None:
    """`--verbose`."""
    parser.add_argument("--verbose", action="store_true", help="llama.cpp's own log on stderr (default: a log file)")


def route_log(args: argparse.Namespace) -> None:
    """Send llama.cpp's log to stderr with `--verbose`, else to the log file."""
    from localllm import paths
    from localllm.native import lib

    if args.verbose:
        lib.log_to_stderr()
    else:
        lib.log_to_file(paths.log_file())
