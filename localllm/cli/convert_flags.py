"""The flags of `localllm convert` that say what is made, and the settings that they are."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.cli import values

if TYPE_CHECKING:
    from localllm.convert import Settings


def tensor_type(value: str) -> tuple[str, str]:
    """`PATTERN=TYPE`; the pattern may hold `=` itself."""
    pattern, sign, kind = value.rpartition("=")
    try:
        re.compile(pattern)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{pattern!r} is no regular expression: {error}") from error
    if not (pattern and sign and kind):
        raise argparse.ArgumentTypeError(f"{value!r} is not PATTERN=TYPE: ffn_down=Q6_K, say")
    return pattern, kind


def key_value(value: str) -> tuple[str, str]:
    """`KEY=VALUE`; the value may hold `=` itself and may be empty."""
    key, sign, rest = value.partition("=")
    if not (key.strip() and sign):
        raise argparse.ArgumentTypeError(f"{value!r} is not KEY=VALUE: general.description=my notes, say")
    return key.strip(), rest


def layer_numbers(value: str) -> tuple[int, ...]:
    """`20,21,22`: numbers of layers, each once, in order."""
    return tuple(sorted({values.whole(part) for part in value.split(",")}))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All flags that say what is made."""
    _add_types(parser.add_argument_group("types of tensors (default: the mixture of llama.cpp)"))
    _add_memory(parser.add_argument_group("type by memory"))
    _add_content(parser.add_argument_group("content"))
    _add_proof(parser.add_argument_group("proof"))
    parser.add_argument_group("adapters").add_argument(
        "--lora",
        type=Path,
        metavar="DIR",
        help="convert the LoRA adapter of PEFT in DIR; SOURCE is its base, of which only config.json is read",
    )


def _add_types(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--imatrix", type=Path, metavar="F", help="importance matrix; the smallest types need one")
    group.add_argument(
        "--tensor-type",
        type=tensor_type,
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


def _add_memory(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fit",
        type=values.byte_count,
        metavar="SIZE",
        help="choose the best type whose weights, KV cache and compute buffers fit: 6GB, 5.5GiB",
    )
    group.add_argument(
        "--ctx", type=values.tokens, default=0, metavar="N", help="context in tokens for --fit (default: chosen)"
    )
    group.add_argument("--kv-type", choices=values.KV_TYPES, default="f16", help="type of the KV cache for --fit")


def _add_content(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--metadata",
        type=key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key; a new one is a text unless VALUE begins with int:, float: or bool:; can be repeated",
    )
    group.add_argument(
        "--prune-layers",
        type=layer_numbers,
        default=(),
        metavar="N,N",
        help="leave these layers out and number the others anew: the model gets worse",
    )
    group.add_argument(
        "--split-max-size",
        type=values.byte_count,
        metavar="SIZE",
        help="write several files with at most so many bytes of tensors each: NAME-00001-of-00003.gguf",
    )
    group.add_argument(
        "--allow-tokenizer-mismatch",
        action="store_true",
        help="write the file although llama.cpp reads some texts differently than the checkpoint's tokenizer",
    )


def _add_proof(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure what a part of the weights lost, and render the chat template both ways (default: yes)",
    )
    group.add_argument("--report", type=Path, metavar="F", help="write the proof, tensor by tensor, as JSON to F")
    group.add_argument(
        "--hash-source",
        action="store_true",
        help="tell the SHA-256 of the files of the weights in the metadata, also where no download recorded it",
    )


def settings(args: argparse.Namespace) -> Settings:
    """The settings of the conversion."""
    from localllm.convert import Settings

    return Settings(
        type=args.type or Settings.type,
        imatrix=args.imatrix,
        tensor_types=tuple(args.tensor_type),
        output_type=args.output_type,
        embedding_type=args.embedding_type,
        pure=args.pure,
        exact_source=args.exact_source,
        metadata=tuple(args.metadata),
        prune_layers=args.prune_layers,
        split_max_size=args.split_max_size,
        allow_tokenizer_mismatch=args.allow_tokenizer_mismatch,
        verify=args.verify,
        hash_source=args.hash_source,
    )
