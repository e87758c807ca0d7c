"""Flags that several commands share: how a model is loaded, where the log goes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from localllm.cli import values
from localllm.cli.from_settings import FromSettings

if TYPE_CHECKING:
    from localllm.runtime.options import Options


def add_engine_flags(parser: argparse.ArgumentParser, *, kv_disk: str = "0") -> None:
    """The flags of every command that loads a model. `kv_disk` is the default of the flag of that name."""
    parser.set_defaults(usage_error=parser.error)
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--ctx",
        type=values.tokens,
        default=FromSettings("ctx", 0),
        metavar="N",
        help="context in tokens (default: chosen)",
    )
    group.add_argument(
        "--threads",
        type=values.threads,
        default=FromSettings("threads", 0),
        metavar="N",
        help="CPU threads (default: physical cores we may use, unless tuned)",
    )
    add_gpu_layers_flag(group)
    group.add_argument(
        "--split",
        type=values.proportions,
        default=(),
        metavar="A,B",
        help="how devices share the layers (default: by what fits)",
    )
    group.add_argument(
        "--cpu-moe",
        type=values.layers,
        default=None,
        metavar="N|auto",
        help="keep the experts of the first N layers in RAM (default: auto, as few as possible)",
    )
    group.add_argument(
        "--kv-type",
        type=values.kv_type,
        default=FromSettings("kv_type", "auto"),
        metavar="K[/V]",
        help=f"type of the KV cache, or of K and V apart: {', '.join(values.KV_TYPES)} "
        "(default: auto, f16 unless tuned)",
    )
    group.add_argument(
        "--kv-ram",
        type=values.room,
        default=FromSettings("kv_ram", 512 << 20),
        metavar="SIZE",
        help="RAM for conversations that have to leave the KV cache (default: 512MiB)",
    )
    group.add_argument(
        "--kv-disk",
        type=values.room,
        default=FromSettings("kv_disk", values.room(kv_disk)),
        metavar="SIZE",
        help="room on disk for what was computed of conversations, so that one that is opened again is not computed "
        f"again (default: {kv_disk})",
    )
    group.add_argument(
        "--window",
        choices=values.WINDOWS,
        default=FromSettings("window", "stop"),
        help="when the context is full: end the answer, leave out the oldest turns, or shift the oldest tokens out "
        "(default: stop)",
    )
    group.add_argument(
        "--lora",
        type=values.adapter,
        action="append",
        default=[],
        metavar="FILE[=SCALE]",
        help="a LoRA adapter, and how much it counts (default: 1); may be given several times",
    )
    group.add_argument(
        "--chat-template",
        type=values.text_of_file,
        metavar="FILE",
        help="the chat template, in Jinja, for a model that has none, or in place of its own",
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
    group.add_argument("--batch", type=values.batch, default=2048, metavar="N", help="tokens per call (default: 2048)")
    group.add_argument(
        "--ubatch",
        type=values.batch,
        default=0,
        metavar="N",
        help="tokens computed at once (default: 512 unless tuned)",
    )
    group.add_argument(
        "--flash-attention",
        choices=("auto", "on", "off"),
        default=FromSettings("flash_attention", "auto"),
        help="(default: auto, llama.cpp decides unless tuned)",
    )
    group.add_argument("--no-tuned", action="store_true", help="do not use what `localllm tune` found for this model")
    group.add_argument("--mlock", action="store_true", help="keep the weights from being swapped out")
    group.add_argument("--no-mmap", action="store_true", help="read the weights instead of mapping the file")


def add_gpu_layers_flag(parser: argparse._ActionsContainer) -> None:
    """`--gpu-layers`."""
    parser.add_argument(
        "--gpu-layers",
        type=values.layers,
        default=FromSettings("gpu_layers"),
        metavar="N|auto",
        help="layers to offload to the GPU, the output layer counts as one (default: auto, as many as fit)",
    )


def add_worker_flag(parser: argparse._ActionsContainer) -> None:
    """`--worker`."""
    parser.add_argument(
        "--worker",
        type=values.endpoint,
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
            chat_template=args.chat_template or "",
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
    from localllm.native import log

    if args.verbose:
        log.to_stderr()
    else:
        log.to_file(paths.log_file())
