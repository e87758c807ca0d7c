"""A Hugging Face checkpoint becomes a GGUF: one pass, bounded memory, a proof that it is the same model.

    from localllm.convert import convert
    result = convert("SmolLM2-135M-Instruct", type="Q4_K_M")

`type` is the option that people set; every other one is a field of `Settings`: `convert(folder, settings=Settings(…))`.
`convert` and `preview` are the way in; `prepare` is between them: all checks and decisions made, nothing written yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from localllm import paths
from localllm.convert import gguf_source, verify
from localllm.convert.adapter import TYPES as ADAPTER_TYPES
from localllm.convert.adapter import open_adapter
from localllm.convert.choices import Choices, UntypedModel, choose, choose_for_tensors
from localllm.convert.files import Files, closed_on_error
from localllm.convert.gguf_source import is_gguf, open_gguf
from localllm.convert.header import lay_out
from localllm.convert.inputs import inputs_of, inputs_of_adapter, refuse_inputs
from localllm.convert.outfiles import check_target, journal_of
from localllm.convert.plan import half_type
from localllm.convert.prepared import Conversion, Evidence, Prepared, Preview, PreviewTensor, previewed
from localllm.convert.proof.chats import CHAT_TEMPLATE, checkpoint_side
from localllm.convert.proof.file_proof import FileProof, verify_file
from localllm.convert.provenance import provenance_keys, unknown_hashes
from localllm.convert.quantizations import TYPES, nearest
from localllm.convert.reading import read_model
from localllm.convert.recorded import requantized_keys
from localllm.convert.settings import Settings, settled
from localllm.convert.writer import Progress
from localllm.gguf_file import read_header
from localllm.native import lib

__all__ = [
    "Conversion",
    "FileProof",
    "Prepared",
    "Preview",
    "PreviewTensor",
    "Settings",
    "convert",
    "convert_adapter",
    "prepare",
    "prepare_adapter",
    "preview",
    "verify_file",
]

Source = str | Path | Files
"""A folder, a GGUF, or files that are elsewhere."""


def prepare(source: Source, type: str | None = None, settings: Settings | None = None) -> Prepared:
    """Read the headers of a checkpoint, decide everything, prove the tokenizer. Writes nothing.

    `source` is the folder of a checkpoint, or a GGUF, which is quantized anew, or files that are elsewhere, such as
    those of a hub repo (`localllm.library.hub.open_source`), which are closed in the end.

    `type` is short for `Settings(type=…)`, and goes before that of `settings`.

    Raises:
        ModelNotFound, BadCheckpoint, UnsupportedModel, MissingPackage: see their docstrings.
    """
    place = _place(source)
    with closed_on_error(place):
        settings = settled(type, settings)
    if isinstance(place, Path) and is_gguf(place):
        return _prepare_gguf(place, settings)
    found = read_model(place)
    checkpoint = found.checkpoint
    with closed_on_error(checkpoint.files):
        model_keys = {**found.keys, **provenance_keys(checkpoint.files, found.weights, settings)}
        half = half_type(checkpoint)
        types = choose_for_tensors(model_keys, found.tensors, half, settings)
        reference, candidates = found.tokenizer()
        vocabulary, proof = verify.prove_vocabulary(
            candidates, reference, model_keys, allow_mismatch=settings.allow_tokenizer_mismatch
        )
        model = UntypedModel(model_keys, vocabulary.keys(), found.tensors, half)
        choices = choose(model, settings, types)
        template = dict(settings.metadata).get(CHAT_TEMPLATE, vocabulary.templates.get("default"))
        chat = checkpoint_side(checkpoint, template, lambda text: reference.encode([text], add_special=False)[0])
        evidence = Evidence(chat, unknown_hashes(checkpoint.files, found.weights, settings))
        lib.give_memory_back()  # that of the vocabularies that llama.cpp loaded
    notes = (*found.notes, *proof.notes, *checkpoint.files.remarks())
    preview = previewed(
        place if isinstance(place, Path) else place.title,
        checkpoint.config.architecture,
        settings,
        choices,
        proof,
        notes,
    )
    return Prepared(checkpoint, preview, model, settings, choices, inputs_of(place, settings.imatrix), evidence)


def _prepare_gguf(path: Path, settings: Settings) -> Prepared:
    source, model, header = open_gguf(path)
    model = replace(model, hyperparameters=requantized_keys(model.hyperparameters, settings))
    choices = choose(model, settings)
    preview = previewed(path, header.architecture, settings, choices, None, tuple(gguf_source.remarks(model)))
    return Prepared(source, preview, model, settings, choices, inputs_of(path, settings.imatrix))


Choose = Callable[[Prepared], Prepared]
"""Chooses another type for what was prepared (`Prepared.with_type`), by what it takes."""


def preview(
    source: Source, type: str | None = None, settings: Settings | None = None, *, choose: Choose | None = None
) -> Preview:
    """What `convert` would write, to the byte, without writing. Takes the options of `prepare`, and `choose`.

    Raises:
        ModelNotFound, BadCheckpoint, UnsupportedModel, MissingPackage: see their docstrings.
    """
    with prepare(source, type, settings) as prepared:
        return (choose(prepared) if choose is not None else prepared).preview


def convert(
    source: Source,
    outfile: str | Path | None = None,
    *,
    type: str | None = None,
    settings: Settings | None = None,
    choose: Choose | None = None,
    force: bool = False,
    resume: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
    announce: Callable[[Preview, Path], None] | None = None,
    remark: Callable[[str], None] | None = None,
) -> Conversion:
    """Convert the checkpoint in the folder `source`, or quantize the GGUF `source` anew, to a GGUF.

    See `prepare` for what else a source can be.

    The bytes of every tensor equal those of llama.cpp's converter followed by `llama-quantize`. `outfile` is by default
    `<name of the folder>-<type>.gguf` in the current folder; it appears when it is whole, or, of a model that is split,
    when all files are (`NAME-00001-of-00003.gguf`). `type` is short for
    `Settings(type=…)`, and goes before that of `settings`; `choose` may replace it. `threads` 0 uses every core.
    `resume` goes on with a conversion that was interrupted, if it is the same one, and leaves what is done when it is
    interrupted itself; the bytes are those of a conversion in one go. `progress` is called with the weights done and in
    all, `announce` with the exact size before the first byte is written, `remark` with what of it is done already.

    Raises:
        ModelNotFound: there is no such folder or file.
        BadCheckpoint: a shard is missing, a shape is wrong, a tensor is left over, the tokenizer is missing.
        UnsupportedModel: an architecture, tokenizer, rope type or quantization type that is not known.
        BadModelFile: the importance matrix is damaged or of another model; or the GGUF is damaged.
        BadOutput: the file exists and `force` is not set, it is one of those that are read, or the disk is full;
            nothing is left behind without `resume`.
        MissingPackage: the extra `convert` is not installed.
    """
    place = _place(source)
    with closed_on_error(place):
        settings = settled(type, settings)
        target = Path(outfile) if outfile is not None else default_outfile(place, settings.type)
        # Of a model that is split, or whose type is chosen later, the name is not known yet.
        if settings.split_max_size is None and (outfile is not None or choose is None):
            refuse_inputs([target], inputs_of(place, settings.imatrix))
            check_target(target, 0, force or (resume and journal_of(target).exists()))
    with prepare(place, settings=settings) as prepared:
        if choose is not None:
            prepared = choose(prepared)
            target = Path(outfile) if outfile is not None else default_outfile(place, prepared.settings.type)
        prepared.check(target, force=force, resume=resume)
        if announce is not None:
            announce(prepared.preview, target)
        return prepared.write(target, force=force, resume=resume, threads=threads, progress=progress, remark=remark)


def convert_adapter(
    adapter: str | Path,
    base: Source,
    outfile: str | Path | None = None,
    *,
    type: str = "F32",
    force: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
    announce: Callable[[Preview, Path], None] | None = None,
) -> Conversion:
    """Convert the LoRA adapter of PEFT in the folder `adapter` to a GGUF adapter.

    Of `base`, the checkpoint that it was trained on, only config.json is read. `type` is F32, F16, BF16
    or Q8_0. The rest is as in `convert`.

    Raises:
        ModelNotFound, BadCheckpoint, UnsupportedModel: one of the two is not there, damaged, or not what is converted.
        BadOutput: the file exists and `force` is not set, or the disk is full; nothing is left behind.
    """
    place = _place(base)
    with closed_on_error(place):
        kind = _adapter_type(type)
        target = Path(outfile) if outfile is not None else default_outfile(Path(adapter), kind)
        refuse_inputs([target], inputs_of_adapter(Path(adapter), place))
        check_target(target, 0, force)
    with prepare_adapter(adapter, place, kind) as prepared:
        if announce is not None:
            announce(prepared.preview, target)
        return prepared.write(target, force=force, threads=threads, progress=progress)


def prepare_adapter(adapter: str | Path, base: Source, type: str = "F32") -> Prepared:
    """Read the headers of an adapter and decide everything. Writes nothing. Raises as `convert_adapter`."""
    place = _place(base)
    with closed_on_error(place):
        kind = _adapter_type(type)
    found = open_adapter(Path(adapter), place)
    choices = Choices(tuple(found.tensors), (lay_out(found.keys, found.typed(kind)),), None, None, ())
    settings = Settings(type=kind)
    preview = previewed(Path(adapter), found.architecture, settings, choices, None, ())
    model = UntypedModel(found.keys, {}, found.tensors, None)
    return Prepared(found.source, preview, model, settings, choices, inputs_of_adapter(Path(adapter), place))


def _adapter_type(type: str) -> str:
    return nearest(type.strip().upper(), ADAPTER_TYPES, f"An adapter is not written in {type!r}.")


def _place(source: Source) -> Path | Files:
    return Path(source) if isinstance(source, str) else source


def default_outfile(source: Path | Files, file_type: str) -> Path:
    """`<name of the folder>-<type>.gguf` in the current folder; of a GGUF the type in its name is replaced.

    A GGUF that a store named by its hash goes by the name in its header.
    """
    name = source.resolve().name if isinstance(source, Path) else source.origin.name
    if isinstance(source, Path) and is_gguf(source):
        if paths.is_hash(source):
            called = read_header(source).metadata.get("general.name")
            name = re.sub(r"[^\w.-]+", "-", called).strip("-.") if isinstance(called, str) else ""
        name = re.sub(r"-\d{5}-of-\d{5}$", "", name.removesuffix(".gguf"))
        name = re.sub(rf"[-.]({'|'.join(TYPES)})$", "", name, flags=re.IGNORECASE)
    return Path(f"{name or 'model'}-{file_type}.gguf")
