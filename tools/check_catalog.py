#!/usr/bin/env python3
"""Checks models/catalog.toml: every field, and every number that can be computed, against what is computed.

    python tools/check_catalog.py            # no network
    python tools/check_catalog.py --write    # puts right what can be computed
    python tools/check_catalog.py --online   # sizes and hashes against the hub (HF_ENDPOINT), --write fills them in

Exits with 1 if something is wrong; every mistake is told with its line, model and field.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A script finds only its own folder by itself.
sys.path.insert(0, str(ROOT))

from model_sizes import Sizes, sizes_of

from localllm.convert.families import known
from localllm.convert.quantizations import TYPES
from localllm.errors import LocalLLMError, ModelNotFound
from localllm.library.catalog import DEFAULT, MEMORY_CTX, Entry, File, Mistake, load_catalog, where

CATALOG = ROOT / "models" / "catalog.toml"

LICENCES = ("apache-2.0", "mit", "gemma", "llama3.1", "llama3.2", "llama3.3")
"""As the hub names them. Another one is read before it is added here."""

HEADER = 80
"""The most bytes for each token of the vocabulary that a file has beside its weights; usual are 20 to 65."""

OLDER = 0.001
"""The part by which a file may be smaller than computed: older versions gave single tensors another type."""

MEMORY_OFF = 0.02
"""How far `memory` may be from what is computed: versions of llama.cpp differ in what they compute with."""


@dataclass(frozen=True)
class Found(Mistake):
    """A mistake, and the value that would be right, if it can be told."""

    right: int | str | None = None


def mistakes(entries: Sequence[Entry]) -> Iterator[Found]:
    """What is wrong in a catalogue whose fields are of the right kinds."""
    if entries[0].name != DEFAULT:
        yield Found(1, 0, "name", f"the first model must be the default, {DEFAULT}")
    for number, entry in enumerate(entries, start=1):
        if number > 1 and entry.parameters < entries[number - 2].parameters:
            yield Found(number, 0, "parameters", f"is smaller than {entries[number - 2].name} before it")
        if entry.licence not in LICENCES:
            yield Found(number, 0, "licence", f"{entry.licence!r} is none of {', '.join(LICENCES)}")
        if entry.architecture not in known():
            yield Found(number, 0, "architecture", f"no family of the converter is {entry.architecture!r}")
            continue
        try:
            sizes = sizes_of(entry.architecture, entry.config, entry.context)
        except LocalLLMError as error:
            yield Found(number, 0, "config", f"contradicts itself: {error.message}")
            continue
        rounded = round(sizes.parameters / 1e6) * 1_000_000
        if entry.parameters != rounded:
            yield Found(
                number, 0, "parameters", f"is {entry.parameters:_}, but config makes {rounded:_}", right=rounded
            )
        for index, file in enumerate(entry.files, start=1):
            yield from _wrong_in_file(number, index, entry, file, sizes)


def _wrong_in_file(number: int, index: int, entry: Entry, file: File, sizes: Sizes) -> Iterator[Found]:
    if file.quantization not in TYPES:
        yield Found(number, index, "quantization", f"{file.quantization!r} is no quantization of llama.cpp")
        return
    if file.quantization.removesuffix("_MOE") not in file.file.upper():
        yield Found(number, index, "file", f"{file.file} does not have {file.quantization} in its name")
    weights = sizes.weights(file.quantization)
    if file.weights != weights:
        yield Found(number, index, "weights", f"is {file.weights:_}, but config makes {weights:_}", right=weights)
    if file.size and not -OLDER * weights <= file.size - weights <= HEADER * int(entry.config["vocab_size"]):
        what = f"is {file.size:_}, but the weights are {weights:_}: another model or quantization"
        yield Found(number, index, "size", what)
    beside, exact = sizes.beside_weights(file.quantization, min(entry.context, MEMORY_CTX))
    memory = -(-(weights + beside) // 1_000_000) * 1_000_000
    # Formulas make a bound, which says only when the number is too large.
    least = memory * (1 - MEMORY_OFF) if exact else weights
    if not least <= file.memory <= memory * (1 + MEMORY_OFF):
        right = memory if exact else None
        yield Found(number, index, "memory", f"is {file.memory:_}, but {memory:_} are computed", right=right)


def hub_mistakes(entries: Sequence[Entry]) -> Iterator[Found]:
    """What the hub says otherwise; and, as mistakes that can be put right, sizes and hashes that are left out.

    Raises:
        DownloadFailed: the hub gives no access.
        Unreachable: it does not answer.
    """
    from localllm.library.listing import list_repo

    for number, entry in enumerate(entries, start=1):
        try:
            there = list_repo(entry.repo, "main", print).files
        except ModelNotFound as error:
            yield Found(number, 0, "repo", error.message)
            continue
        for index, file in enumerate(entry.files, start=1):
            parts = [there[part] for part in file.parts if part in there]
            if len(parts) < len(file.parts):
                missing = next(part for part in file.parts if part not in there)
                yield Found(number, index, "file", f"{entry.repo} has no {missing} on the hub")
                continue
            size = sum(part.size for part in parts)
            if file.size != size:
                yield Found(number, index, "size", f"is {file.size:_}, but the hub says {size:_}", right=size)
            digest = parts[0].sha256 if len(parts) == 1 else None
            if digest and file.sha256 != digest:
                yield Found(number, index, "sha256", f"is {file.sha256!r}, but the hub says {digest}", right=digest)


def put_right(text: str, found: Sequence[Found]) -> str:
    """The catalogue with the values that can be told."""
    lines = text.splitlines()
    for mistake in sorted(found, key=lambda one: _place(text, one), reverse=True):
        value = f'"{mistake.right}"' if isinstance(mistake.right, str) else f"{mistake.right:_}"
        place = _place(text, mistake) - 1
        line = f"{mistake.field} = {value}"
        if re.match(rf"{mistake.field}\s*=", lines[place]):
            lines[place] = line
        else:
            # The heading of the table, whose fields go on until an empty line.
            while place + 1 < len(lines) and lines[place + 1].strip():
                place += 1
            lines.insert(place + 1, line)
    return "\n".join(lines) + "\n"


def _place(text: str, mistake: Mistake) -> int:
    found = re.match(r"line (\d+)", where(text, mistake, {}))
    assert found
    return int(found[1])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=CATALOG, help="(default: the one that is shipped)")
    parser.add_argument("--write", action="store_true", help="put right what can be computed, or what the hub says")
    parser.add_argument("--online", action="store_true", help="compare sizes and hashes with the hub")
    args = parser.parse_args(argv)
    try:
        entries = load_catalog(args.file)
        found = [*mistakes(entries), *(hub_mistakes(entries) if args.online else [])]
    except LocalLLMError as error:
        print(error, file=sys.stderr)
        return 1
    text = args.file.read_text(encoding="utf-8")
    if args.write:
        known_right = [mistake for mistake in found if mistake.right is not None]
        args.file.write_text(put_right(text, known_right), encoding="utf-8")
        print(f"{args.file}: put right {len(known_right)} values", file=sys.stderr)
        found = [mistake for mistake in found if mistake.right is None]
    for mistake in found:
        table = {"name": entries[mistake.number - 1].name}
        print(f"{args.file}, {where(text, mistake, table)}: {mistake.what}", file=sys.stderr)
    if not found:
        print(f"{args.file}: {len(entries)} models, {sum(len(entry.files) for entry in entries)} files, no mistake")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
