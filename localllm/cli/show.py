"""`localllm show MODEL`: everything that the header of a model tells."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from localllm.cli import table

if TYPE_CHECKING:
    from localllm.library.details import Details

EPILOG = """examples:
  localllm show                          the default model
  localllm show qwen3:0.6b               sizes, types, tokenizer, licence, and where it came from
  localllm show model.gguf --tensors     and every tensor
  localllm show llama3.2:1b --template   its chat template alone, as it stands in the file
  localllm show qwen3:0.6b --json        every key of the header, for programs

Reads the header only: `localllm verify` reads the weights, `localllm plan` says what a load would take.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `show` command."""
    parser = commands.add_parser(
        "show",
        help="everything that the header of a model tells",
        description="Show what the header of a model tells: sizes, types, tokenizer, licence, origin.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="path, catalogue name or model on this machine")
    parser.add_argument("--tensors", action="store_true", help="list every tensor: name, shape, type, bytes")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--template", action="store_true", help="print the chat template and nothing else")
    only.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    from localllm.library.details import details

    found = details(args.model)
    if args.template:
        return _print_template(found)
    if args.json:
        print(json.dumps(_document(found, tensors=args.tensors)))
        return 0
    print(table.printable(found.name))
    rows = [(what, said) for what, said in _rows(found) if said]
    for line in table.lines([(f"  {what}", said) for what, said in rows]):
        print(line)
    if args.tensors:
        _print_tensors(found)
    return 0


def _print_template(found: Details) -> int:
    if not found.template:
        print(f"{found.name} has no chat template", file=sys.stderr)
        return 1
    # A terminal would obey what a file has between the lines.
    plain = "\n".join(map(table.printable, found.template.split("\n"))) if sys.stdout.isatty() else found.template
    print(plain)
    return 0


def _rows(found: Details) -> list[tuple[str, str]]:
    """What is known, a line each; those without a text are left out."""
    from localllm.library.places import KINDS
    from localllm.runtime import last_used

    model, header = found.model, found.header
    tensors = f"{found.parameters:,} in {len(found.tensors):,} tensors"
    parts = f" in {len(model.parts)} parts" if len(model.parts) > 1 else ""
    place = KINDS.get(model.kind, "") + (f", {model.repo}" if model.repo else "")
    used = last_used.read().get(os.path.realpath(model.path), 0)
    trained = header.context_length
    return [
        ("called", found.text("general.name")),
        ("architecture", header.architecture),
        ("weights", tensors),
        ("layers", found.number("{arch}.block_count")),
        ("context", f"{trained:,} tokens" if trained else ""),
        ("embedding", found.number("{arch}.embedding_length")),
        ("feed-forward", found.number("{arch}.feed_forward_length")),
        ("experts", _experts(found)),
        ("heads", _heads(found)),
        ("window", _with_unit(found.number("{arch}.attention.sliding_window"), "tokens, in some layers or all")),
        ("quantization", found.quantization),
        *_types(found),
        ("tokenizer", _tokenizer(found)),
        *[(f"  {kind}", f"{number} {text!r}") for kind, (number, text) in found.special_tokens.items()],
        ("template", f"{len(found.template):,} characters" if found.template else "none"),
        ("licence", found.licence or "the file does not say"),
        *_origins(found),
        ("size", f"{table.size(model.size)}{parts}"),
        ("place", place),
        ("path", str(model.path)),
        ("used", table.since(used) if used else ""),
        ("note", model.remark),
    ]


def _types(found: Details) -> list[tuple[str, str]]:
    return [
        (f"  {kind}", f"{count:,} tensor{'s' if count > 1 else ''}, {table.size(size)}")
        for kind, (count, size) in found.types.items()
    ]


def _origins(found: Details) -> list[tuple[str, str]]:
    return [("origin" if index == 0 else "", told) for index, told in enumerate(found.origins)]


def _with_unit(number: str, unit: str) -> str:
    return f"{number} {unit}" if number else ""


def _experts(found: Details) -> str:
    count, used = found.number("{arch}.expert_count"), found.number("{arch}.expert_used_count")
    return f"{count}, {used or '?'} of them for each token" if count not in ("", "0") else ""


def _heads(found: Details) -> str:
    heads, shared = found.number("{arch}.attention.head_count"), found.number("{arch}.attention.head_count_kv")
    width = found.number("{arch}.attention.key_length")
    kv = f", {shared} of keys and values" if shared and shared != heads else ""
    return f"{heads}{kv}{f', {width} wide' if width else ''}" if heads else ""


def _tokenizer(found: Details) -> str:
    kind, pre = found.text("tokenizer.ggml.model"), found.text("tokenizer.ggml.pre")
    return f"{kind}{f' ({pre})' if pre else ''}, {found.vocabulary:,} tokens" if kind else ""


def _print_tensors(found: Details) -> None:
    rows = [
        (tensor.name, " x ".join(map(str, tensor.shape)), tensor.type_name, f"{tensor.n_bytes:,}")
        for tensor in found.tensors
    ]
    print()
    for line in table.lines([("tensor", "shape", "type", "bytes"), *rows], right={3}):
        print(line)


def _document(found: Details, *, tensors: bool) -> dict[str, Any]:
    from localllm.library.details import tensor_rows
    from localllm.library.places import KINDS

    model, header = found.model, found.header
    special = {kind: {"id": number, "text": text} for kind, (number, text) in found.special_tokens.items()}
    document = {
        "name": found.name,
        "path": str(model.path),
        "files": [str(part) for part in model.parts],
        "bytes": model.size,
        "place": KINDS.get(model.kind),
        "repo": model.repo or None,
        "architecture": header.architecture or None,
        "parameters": found.parameters,
        "layers": header.n_layer or None,
        "context": header.context_length or None,
        "quantization": found.quantization,
        "types": {kind: {"tensors": count, "bytes": size} for kind, (count, size) in found.types.items()},
        "tokenizer": found.text("tokenizer.ggml.model") or None,
        "tokens": found.vocabulary or None,
        "special_tokens": special,
        "licence": found.licence or None,
        "origins": found.origins,
        "template": found.template or None,
        "metadata": found.metadata(),
    }
    return {**document, "tensors": tensor_rows(found.tensors)} if tensors else document
