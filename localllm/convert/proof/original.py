"""What a file is compared with: the checkpoint it is said to be made of, or another GGUF of the same model.

Opens either, and compares what is text: the tokenizer and the chat template. Knows no weight and judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from localllm.convert import corpus, verify
from localllm.convert.choices import UntypedModel, choose_mixture
from localllm.convert.files import Files
from localllm.convert.gguf_source import is_gguf, open_gguf
from localllm.convert.header import Keys
from localllm.convert.plan import half_type
from localllm.convert.proof.chats import TemplateProof, checkpoint_side, compare_chats, engine_side
from localllm.convert.proof.keys import vocabulary_keys
from localllm.convert.reading import ReadModel, read_model
from localllm.convert.settings import Settings
from localllm.convert.tensor import RowSource
from localllm.convert.verify import Mismatch, TokenizerProof
from localllm.convert.vocabulary import Vocabulary
from localllm.errors import BadModelFile, UnsupportedModel
from localllm.gguf_file import Header
from localllm.native.trial import try_file
from localllm.native.vocab import open_vocab

_TEXTS = 1000


@dataclass(frozen=True)
class Original(AbstractContextManager["Original"]):
    """A model to compare with. Leaving it closes its files.

    `model` has its tensors and the keys of its network; `weights` names the files that hold the tensors. A checkpoint
    is in `read`, a GGUF at `path`.
    """

    title: str
    rows: RowSource
    model: UntypedModel
    weights: tuple[str, ...] = ()
    read: ReadModel | None = None
    path: Path | None = None

    def __exit__(self, *_: object) -> None:
        self.rows.files.close()

    @property
    def architecture(self) -> str:
        """llama.cpp's name of it."""
        return str(self.model.hyperparameters["general.architecture"].value)

    def types(self, settings: Settings) -> Mapping[str, str] | None:
        """The type that each tensor gets with these settings, or None where they cannot be followed here."""
        model = self.model
        try:
            return choose_mixture(model.hyperparameters, model.tensors, model.half, settings).types
        except (UnsupportedModel, BadModelFile):
            return None


def open_original(source: Path | Files) -> Original:
    """Open a checkpoint or a GGUF.

    Raises:
        ModelNotFound, BadCheckpoint, BadModelFile, UnsupportedModel: as `convert`.
    """
    if isinstance(source, Path) and is_gguf(source):
        rows, model, header = open_gguf(source)
        return Original(str(source), rows, model, path=header.path)
    read = read_model(source)
    title = str(source) if isinstance(source, Path) else source.title
    model = UntypedModel(read.keys, {}, read.tensors, half_type(read.checkpoint))
    return Original(title, read.checkpoint, model, read.weights, read)


@dataclass(frozen=True)
class TextProof:
    """What was found of the vocabulary and the template. `keys` are those of the vocabulary that the source gives."""

    tokenizer: TokenizerProof
    template: TemplateProof | None
    keys: Keys


def compare_texts(original: Original, header: Header) -> TextProof:
    """Compare the tokenizer and the chat template of a file, by the header of its first part.

    Raises:
        BadCheckpoint, UnsupportedModel, MissingPackage: the checkpoint has no tokenizer that can be compared with.
        BadModelFile: llama.cpp does not load the vocabulary of one of them.
    """
    if original.read is not None:
        return _with_checkpoint(original.read, header)
    assert original.path is not None
    try_file(original.path, corpus.TEXTS)
    with engine_side(original.path) as expected, engine_side(header.path) as found:
        template = compare_chats(expected, found)
    return TextProof(
        _between_files(original.path, header.path), template, vocabulary_keys(original.model.hyperparameters)
    )


def _with_checkpoint(read: ReadModel, header: Header) -> TextProof:
    reference, candidates = read.tokenizer()
    candidate = _candidate(candidates, header)
    proof = verify.prove_file(header.path, candidate, reference)
    expected = checkpoint_side(
        read.checkpoint,
        candidate.templates.get("default"),
        lambda text: reference.encode([text], add_special=False)[0],
    )
    with engine_side(header.path) as found:
        template = compare_chats(expected, found)
    return TextProof(proof, template, vocabulary_keys(candidate.keys()))


def _candidate(candidates: Sequence[Vocabulary], header: Header) -> Vocabulary:
    """The way in which the file writes its vocabulary, or else the likeliest."""
    written = (header.get("tokenizer.ggml.model"), header.get("tokenizer.ggml.pre", "default"))
    same = [candidate for candidate in candidates if (candidate.model, candidate.pre) == written]
    kind = [candidate for candidate in candidates if candidate.model == written[0]]
    return (same or kind or list(candidates))[0]


def _between_files(original: Path, file: Path) -> TokenizerProof:
    """Whether two files give the same ids."""
    texts = [*corpus.TEXTS, *corpus.BROKEN, *corpus.random_texts(_TEXTS), *corpus.class_texts(_TEXTS)]
    differing = []
    with open_vocab(original) as one, open_vocab(file) as other:
        for text in texts:
            ids = [vocab.tokenize(text, add_special=True, parse_special=True) for vocab in (one, other)]
            if ids[0] != ids[1]:
                differing.append(Mismatch(text, *ids))
    return TokenizerProof(len(texts), len(differing), differing[0] if differing else None)
