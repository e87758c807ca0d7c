"""A file against a source: hyperparameters, tokenizer, chat template, every tensor, the hashes of the source's files.

Gathers what is found and what is wrong; how weights are compared and judged is said elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from localllm.convert.gguf_source import stored_rows
from localllm.convert.header import Keys
from localllm.convert.imatrix import open_imatrix
from localllm.convert.proof import judgement
from localllm.convert.proof.alone import Problem
from localllm.convert.proof.chats import CHAT_TEMPLATE, TemplateProof
from localllm.convert.proof.checks import TensorCheck
from localllm.convert.proof.keys import KeyProof, compare_keys, is_list_of_tokens, model_keys
from localllm.convert.proof.original import Original, TextProof, compare_texts
from localllm.convert.proof.weights import WeightCheck
from localllm.convert.provenance import hashing, read_provenance
from localllm.convert.pruning import kept_names, pruned_keys
from localllm.convert.quantizations import FLOAT_TYPES, TYPES
from localllm.convert.recorded import recorded_settings
from localllm.convert.settings import Settings
from localllm.convert.verify import TokenizerProof
from localllm.convert.writer import Progress
from localllm.errors import BadModelFile, UnsupportedModel
from localllm.gguf_file import Header

_MATRIX = "quantize.imatrix.file"


@dataclass(frozen=True)
class Comparison:
    """What was found. Of a file of another architecture only that is told. `hashes` counts files that were compared.

    `but` names, in words, what is not as in the source and yet no fault of the file: whoever made it wanted it so, or
    llama.cpp does it so with every file of this kind.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    keys: KeyProof | None = None
    tokenizer: TokenizerProof | None = None
    template: TemplateProof | None = None
    checks: tuple[TensorCheck, ...] = ()
    hashes: int = 0
    but: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """How a file says that it was made: its settings, and the keys that a person set. `known` is whether it says so."""

    settings: Settings
    changed: frozenset[str]
    known: bool


def compare(
    original: Original,
    parts: Sequence[Header],
    *,
    loads: bool,
    imatrix: Path | None,
    hash_source: bool,
    threads: int,
    progress: Progress | None,
) -> Comparison:
    """Compare the file with these headers with a source; its texts only when llama.cpp `loads` it.

    Raises:
        ModelNotFound, BadModelFile: there is no such importance matrix, or it is damaged.
        BadCheckpoint, UnsupportedModel, MissingPackage: the source cannot be compared with.
    """
    header = parts[0]
    if header.architecture != original.architecture:
        says = f"it is of the architecture {header.architecture or 'of no name'}, {original.title} gives "
        return Comparison((Problem("file", f"{says}{original.architecture}: it is of another model"),))
    recorded = _recorded(header)
    layers = recorded.settings.prune_layers
    try:
        expected = original.model.hyperparameters
        names = kept_names([tensor.name for tensor in original.model.tensors], expected, layers)
        expected = pruned_keys(expected, layers) if layers else expected
    except UnsupportedModel as error:
        says = f"it says that it was made without the layers {', '.join(map(str, layers))}, but of {original.title} "
        return Comparison((Problem("file", f"{says}that cannot be: {error.message}"),))
    keys, key_problems, key_notes = _keys(model_keys(expected), header, recorded, original.title)
    texts, text_problems, text_notes = _texts(original, header, recorded) if loads else (None, [], [])
    hashes, hash_problems, hash_notes = _hashes(original, header, hash_source)
    checks, problems, notes = _weights(original, names, parts, recorded, imatrix, threads, progress)
    return Comparison(
        (*key_problems, *text_problems, *hash_problems, *problems),
        (*key_notes, *text_notes, *hash_notes, *notes),
        keys,
        texts.tokenizer if texts else None,
        texts.template if texts else None,
        tuple(checks),
        hashes,
        tuple(_exceptions(recorded, texts)),
    )


def _exceptions(recorded: Recorded, texts: TextProof | None) -> Iterator[str]:
    """In what the file is not the model that the source is, although nothing is wrong with it."""
    if recorded.settings.prune_layers:
        yield f"it was made without the layers {', '.join(map(str, recorded.settings.prune_layers))}"
    counting = [name for name in sorted(recorded.changed) if not name.startswith("general.")]
    if counting:
        yield f"whoever converted it set {', '.join(counting)}"
    if texts is not None and texts.tokenizer.different:
        yield f"{texts.tokenizer.different:,} of {texts.tokenizer.texts:,} texts get other token ids in llama.cpp"


def _recorded(header: Header) -> Recorded:
    settings, changed = recorded_settings(header)
    kind = header.quantization
    found = replace(settings or Settings(), type=kind if kind in TYPES else Settings.type)
    if _MATRIX in header.metadata:
        found = replace(found, imatrix=Path(str(header.get(_MATRIX))))
    return Recorded(found, changed, settings is not None)


def _keys(expected: Keys, header: Header, recorded: Recorded, title: str) -> tuple[KeyProof, list[Problem], list[str]]:
    """The numbers that the network is made with."""
    proof = compare_keys(expected, header, but=recorded.changed)
    problems = [Problem("metadata", f"{name} is {says}") for name, says in proof.different.items()]
    problems += [
        Problem("metadata", f"{name} is missing; {title} gives it") for name in proof.missing if recorded.known
    ]
    notes = [f"the file does not say {name}" for name in proof.missing if not recorded.known]
    if recorded.changed:
        notes.append(f"set by whoever converted it, and not compared: {', '.join(sorted(recorded.changed))}")
    return proof, problems, notes


def _texts(original: Original, header: Header, recorded: Recorded) -> tuple[TextProof | None, list[Problem], list[str]]:
    """The tokenizer and the chat template."""
    try:
        found = compare_texts(original, header)
    except BadModelFile as error:
        return None, [Problem("tokenizer", error.message)], []
    vocabulary = compare_keys(found.keys, header, but=recorded.changed)
    problems, notes = [], [*found.tokenizer.notes]
    for name, says in vocabulary.different.items():
        if recorded.known or is_list_of_tokens(name):
            problems.append(Problem("tokenizer", f"{name}: {says}"))
        else:
            notes.append(f"{name}: {says}")
    if recorded.known:
        problems += [Problem("tokenizer", f"{name} is missing") for name in vocabulary.missing]
    if found.tokenizer.mismatch is not None:
        count = f"{found.tokenizer.different} of {found.tokenizer.texts} texts get other token ids"
        problems.append(Problem("tokenizer", f"{count}: {found.tokenizer.mismatch}"))
    if found.template is not None:
        notes += found.template.notes
        if CHAT_TEMPLATE not in recorded.changed:
            problems += [Problem("template", difference) for difference in found.template.differences]
    return found, problems, notes


def _hashes(original: Original, header: Header, hash_source: bool) -> tuple[int, list[Problem], list[str]]:
    """The files of the source against those that the file names, where both hashes are known or to be computed."""
    provenance = read_provenance(header)
    names, digests = provenance.get("source.files"), provenance.get("source.sha256")
    if not isinstance(names, list) or not isinstance(digests, list) or not names or len(names) != len(digests):
        return 0, [], ["the file records no hashes of its source"] if hash_source else []
    recorded = dict(zip(map(str, names), map(str, digests), strict=True))
    shared = [name for name in original.weights if name in recorded]
    if not shared:
        said = f"the file was made of {', '.join(recorded)}, {original.title} has {', '.join(original.weights)}"
        return 0, [], [said] if original.weights else []
    files = original.rows.files
    found = {name: files.sha256(name) for name in shared}
    if hash_source:
        with hashing(files, shared) as results:
            found = {name: result.result() for name, result in zip(shared, results, strict=True)}
    problems = [
        Problem("source", f"{name} is not the file that was converted: its SHA-256 is {digest}, not {recorded[name]}")
        for name, digest in found.items()
        if digest is not None and digest != recorded[name]
    ]
    return sum(digest is not None for digest in found.values()), problems, []


def _weights(
    original: Original,
    names: Mapping[str, str],
    parts: Sequence[Header],
    recorded: Recorded,
    imatrix: Path | None,
    threads: int,
    progress: Progress | None,
) -> tuple[list[TensorCheck], list[Problem], list[str]]:
    """Every tensor. `names` has what they are called in the file."""
    header, settings = parts[0], recorded.settings
    matched = judgement.match(original.model.tensors, names, parts, original.title)
    problems, notes = list(matched.problems), list[str]()
    if header.quantization in TYPES:
        # Layers may have been left out before the types were chosen, or after: that is not told.
        exact = recorded.known and not settings.prune_layers
        wrong, remarks = judgement.other_types(original.types(settings), parts, header.quantization, exact)
        problems, notes = [*problems, *wrong], [*notes, *remarks]
    importance = open_imatrix(imatrix).renamed(names) if imatrix else None
    stored = stored_rows(parts)
    with closing(stored.files):
        check = WeightCheck(original.rows, stored, _ways(original, settings), importance)
        checks = check.check(matched.pairs, threads, progress)
    problems += judgement.judge(checks, parts, original.title)
    notes += judgement.remarks(checks, original.title, str(header.get(_MATRIX, "")), imatrix is not None)
    return checks, problems, notes


def _ways(original: Original, settings: Settings) -> list[str | None]:
    """The 16-bit types that may stand between the source and the file, the likeliest first."""
    straight = settings.exact_source or settings.type in FLOAT_TYPES
    first = None if straight else original.model.half
    return list(dict.fromkeys([first, None, original.model.half, "F16", "BF16"]))
