"""What `localllm verify` says: to people as text, to programs as JSON."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, TextIO

from localllm.cli.convert_result import loss_in_words, template_in_words, tokenizer_in_words
from localllm.counts import counted

if TYPE_CHECKING:
    from localllm.convert import FileProof


def show(proof: FileProof, out: TextIO) -> None:
    """What was found, and the verdict last."""
    for line in _lines(proof):
        print(line, file=out)


def _lines(proof: FileProof) -> list[str]:
    header, alone = proof.parts[0], proof.alone
    count, split = sum(proof.types.values()), f" in {len(proof.parts)} files" if len(proof.parts) > 1 else ""
    lines = [f"{proof.path}: {header.architecture or 'no model'}, {header.quantization}, {proof.bytes:,} bytes{split}"]
    lines += [f"  made of: {_origin(proof)}"] if proof.provenance else []
    types = ", ".join(f"{count} {name}" for name, count in proof.types.items())
    lines.append(f"  tensors: {types}; {alone.bytes_read:,} bytes of them read")
    if alone.vocabulary:
        words = alone.vocabulary
        lines.append(f"  vocabulary: {words.tokens:,} tokens, {words.model}/{words.pre}")
    if proof.against is None and proof.template and proof.template.conversations:
        refused = f", refuses {proof.template.refused}" if proof.template.refused else ""
        lines.append(
            f"  chat template: renders {proof.template.conversations - proof.template.refused} conversations{refused}"
        )
    if proof.against is not None:
        lines += [f"against {proof.against}", *_compared(proof, count)]
    lines += [f"note: {note}" for note in proof.notes]
    lines += [f"problem, {problem.about}: {problem.says}" for problem in proof.problems]
    return [*lines, _verdict(proof)]


def _compared(proof: FileProof, count: int) -> list[str]:
    compared, lines = proof.compared, []
    if compared is None or not (compared.keys or compared.checks):
        return []
    if compared.keys:
        same = compared.keys.compared - len(compared.keys.different)
        lines.append(f"  metadata: {same} of {compared.keys.compared} keys of the network are the same")
    if compared.tokenizer and not (proof.ok and compared.tokenizer.different):  # else the verdict counts them
        lines.append(f"  tokenizer: {tokenizer_in_words(compared.tokenizer)}")
    if compared.template and compared.template.equal:
        lines.append(f"  chat template: {template_in_words(compared.template)}")
    if compared.hashes:
        lines.append(f"  hashes: those of {compared.hashes} files of the source were compared")
    if compared.checks:
        lines.append(
            f"  bytes: {proof.identical} of {count} tensors are what quantizing the source gives, to the last byte"
        )
        lines += [f"  weights: {loss_in_words(proof.rmse)}", "", *_roles(proof), ""]
    return lines


def _roles(proof: FileProof) -> list[str]:
    """A table of what each role lost."""
    from localllm.convert.proof.roundtrip import by_role

    lines = [f"  {'role':24} {'types':22} {'off by':>9} {'worst tensor':>13} {'worst block':>12}"]
    for role in by_role(check.found for check in proof.checks):
        types = ", ".join(f"{count} {name}" for name, count in role.types.items())
        numbers = f"{role.rmse:>9.3%} {role.worst_tensor_rmse:>13.3%} {role.worst_block:>12.3%}"
        lines.append(f"  {role.role:24} {types:22} {numbers}")
    return lines


def _origin(proof: FileProof) -> str:
    told = proof.provenance
    name = (
        told.get("source.repository")
        or told.get("source.name")
        or told.get("source.repo_url")
        or "a source without a name"
    )
    revision = f"@{told['source.revision'][:8]}" if told.get("source.revision") else ""
    by = f", by localllm {told['version']}" if "version" in told else ""
    matrix = f", with {told['quantize.imatrix.file']}" if "quantize.imatrix.file" in told else ""
    return f"{name}{revision}{matrix}{by}"


def _verdict(proof: FileProof) -> str:
    if not proof.ok:
        count = len(proof.problems)
        return f"It is NOT well: {counted(count, 'problem')} ({proof.seconds:.1f} s)."
    if proof.against is None:
        against = shlex.quote(str(proof.source_here)) if proof.source_here else "SOURCE"
        return (
            f"Nothing is wrong with the file by itself ({proof.seconds:.1f} s). Whether it is the model that it was "
            f"made of:\n  localllm verify {shlex.quote(str(proof.path))} --against {against}"
        )
    how = "to the last byte" if proof.identical == len(proof.checks) else "as far as its types keep it"
    if proof.coarser:
        how = "as far as a source of coarser types can tell"
    if proof.but:
        return f"Its weights are those of the model, {how}, but {'; '.join(proof.but)} ({proof.seconds:.1f} s)."
    return f"It is the model, {how} ({proof.seconds:.1f} s)."


def document(proof: FileProof) -> dict[str, Any]:
    """The JSON. What was not compared is null, `equal` of a file by itself as well. `ok` is that nothing is wrong;
    `but` what is not as in the source all the same."""
    from localllm.convert.proof.verification import template_document, tensors_document, tokenizer_document

    alone, compared = proof.alone, proof.compared
    words = alone.vocabulary
    vocabulary = {"model": words.model, "pre": words.pre, "tokens": words.tokens} if words else None
    tokenizer, template = tokenizer_document(proof.tokenizer), template_document(proof.template)
    if template is not None and proof.against is None:
        template["equal"] = None
    return {
        "file": str(proof.path),
        "files": [str(part.path) for part in proof.parts],
        "bytes": proof.bytes,
        "architecture": proof.parts[0].architecture,
        "type": proof.parts[0].quantization,
        "types": proof.types,
        "against": proof.against,
        "ok": proof.ok,
        "but": list(proof.but),
        "problems": [{"about": problem.about, "says": problem.says} for problem in proof.problems],
        "notes": list(proof.notes),
        "metadata": {
            "compared": compared.keys.compared,
            "different": dict(compared.keys.different),
            "missing": list(compared.keys.missing),
        }
        if compared and compared.keys
        else None,
        "vocabulary": vocabulary,
        "tokenizer": tokenizer,
        "template": template,
        "tensors": {
            "count": sum(proof.types.values()),
            "bytes_read": alone.bytes_read,
            **tensors_document([check.found for check in proof.checks]),
            **({"identical": proof.identical} if proof.checks else {}),
        },
        "hashes": compared.hashes if compared else None,
        "provenance": proof.provenance,
        "source_here": str(proof.source_here) if proof.source_here else None,
        "seconds": round(proof.seconds, 3),
    }


def report_document(proof: FileProof) -> dict[str, Any]:
    """The JSON of `--report`: the same and what was found of every tensor."""
    from localllm.convert.proof.verification import each_tensor

    each = each_tensor([check.found for check in proof.checks])
    for check in proof.checks:
        more = {
            "identical": check.identical,
            "rows": check.rows,
            "other_rows": check.different if check.remade else None,
        }
        each[check.found.name].update(more, expected_rmse=check.expected)
    return {**document(proof), "each": each}
