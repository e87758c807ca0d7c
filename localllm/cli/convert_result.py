"""What `localllm convert` says: to people on stderr, to programs as JSON."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from localllm.convert import Conversion, Preview
    from localllm.convert.proof.chats import TemplateProof
    from localllm.convert.proof.verification import Verification
    from localllm.convert.verify import TokenizerProof

_RANKS = 4
"""`LLAMA_POOLING_TYPE_RANK` of llama.cpp."""


def announce(preview: Preview, target: Path) -> None:
    """What will be written, on stderr: in people's view before the progress bar, out of programs' way."""
    mib = preview.bytes / 2**20
    print(f"{preview.source} ({preview.architecture}, {preview.parameters:,} weights)", file=sys.stderr)
    split = f" in {preview.files} files" if preview.files > 1 else ""
    print(f"  -> {target}, {preview.type}: {preview.bytes:,} bytes ({mib:,.1f} MiB){split}", file=sys.stderr)
    types = ", ".join(f"{count} {name}" for name, count in preview.types.items())
    print(f"  tensors: {types}", file=sys.stderr)
    if preview.tokenizer:
        print(f"  tokenizer: {tokenizer_in_words(preview.tokenizer)}", file=sys.stderr)
    for note in preview.notes:
        print(f"note: {note}", file=sys.stderr)


def proven(proof: Verification) -> None:
    """What was proven of the finished file, on stderr."""
    if proof.losses:
        print(f"  weights: {loss_in_words(proof.rmse)}; looked at {proof.looked_at:.1%} of them", file=sys.stderr)
    if proof.template:
        if proof.template.equal:
            print(f"  chat template: {template_in_words(proof.template)}", file=sys.stderr)
        for difference in proof.template.differences:
            print(f"note: chat template, {difference}", file=sys.stderr)
        for note in proof.template.notes:
            print(f"note: {note}", file=sys.stderr)


def next_step(path: Path) -> str:
    """What to do with a model that is new: a command or, for one that does not write, a line of Python."""
    from localllm.gguf_file import read_header

    header, quoted = read_header(path), shlex.quote(str(path))
    if not writes(path):
        does = (
            "rerank(query, documents)"
            if header.get(f"{header.architecture}.pooling_type") == _RANKS
            else "embed(texts)"
        )
        return f"next, in Python: localllm.load({str(path)!r}).{does}"
    if header.get("tokenizer.chat_template"):
        return f"next: localllm chat {quoted}"
    return f"next: localllm run {quoted} --raw TEXT (it has no chat template)"


def writes(path: Path) -> bool:
    """Whether the model continues a text, as all but models of embeddings do."""
    from localllm.gguf_file import read_header

    header = read_header(path)
    return bool(header.get(f"{header.architecture}.attention.causal", True))


def tokenizer_in_words(proof: TokenizerProof) -> str:
    """On how many texts the ids are the same."""
    if not proof.different:
        return f"the same token ids as the source's on {proof.texts:,} texts"
    return f"other token ids than the source's on {proof.different:,} of {proof.texts:,} texts"


def template_in_words(proof: TemplateProof) -> str:
    """How many conversations are the same."""
    return f"the same text and token ids in {proof.conversations} conversations"


def loss_in_words(rmse: float) -> str:
    """An error in units of the weights' own size."""
    return f"off by {rmse:.2%} (root mean square)" if rmse else "exactly those of the source"


def print_tensors(preview: Preview, out: TextIO) -> None:
    """Every tensor and the size of the file."""
    for tensor in preview.tensors:
        shape = " x ".join(map(str, tensor.shape))
        print(f"{tensor.name:40} {tensor.type:8} {shape:>24} {tensor.bytes:>16,}", file=out)
    print(f"{'whole file':40} {preview.type:8} {'':>24} {preview.bytes:>16,}", file=out)


def preview_document(preview: Preview, target: Path) -> dict[str, Any]:
    """The JSON of `--preview`."""
    from dataclasses import asdict

    from localllm.convert.proof.verification import tokenizer_document

    verification = {"tokenizer": tokenizer_document(preview.tokenizer)}
    tensors = [asdict(tensor) for tensor in preview.tensors]
    return {**_common(preview, target), "verification": verification, "tensors": tensors}


def result_document(result: Conversion) -> dict[str, Any]:
    """The JSON of a finished conversion."""
    return {
        **_common(result.preview, result.outfile),
        "files": [str(file) for file in result.files],
        "seconds": round(result.seconds, 3),
        "verification": result.verification.document(),
    }


def report_document(result: Conversion) -> dict[str, Any]:
    """The JSON of `--report`: the same, what every tensor lost, and where the file says that it comes from."""
    from localllm.convert.proof.verification import each_tensor
    from localllm.convert.provenance import read_provenance
    from localllm.gguf_file import read_header

    document = result_document(result)
    document["provenance"] = read_provenance(read_header(result.outfile))
    document["tensors"] = each_tensor(result.verification.losses)
    return document


def _common(preview: Preview, outfile: Path) -> dict[str, Any]:
    return {
        "outfile": str(outfile),
        "bytes": preview.bytes,
        "type": preview.type,
        "types": preview.types,
        "parameters": preview.parameters,
        "notes": list(preview.notes),
    }
