"""A checkpoint that was read: its family, its tensors as the GGUF has them, its keys, and its tokenizer.

Everything that does not depend on the type it is converted to. Proves nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localllm.convert import architectures, dense, head
from localllm.convert.checkpoint import Checkpoint, open_checkpoint
from localllm.convert.config import Config
from localllm.convert.families import Family
from localllm.convert.files import Files, closed_on_error
from localllm.convert.general import general_keys
from localllm.convert.header import Keys
from localllm.convert.plan import PlannedTensor, left_out, plan_tensors
from localllm.convert.pooling import pooling_keys
from localllm.convert.reference import Reference, as_text
from localllm.convert.stored import read_stored_keys
from localllm.convert.vocabulary import Vocabulary, read_source, read_vocabularies
from localllm.errors import BadCheckpoint, UnsupportedModel


@dataclass(frozen=True)
class ReadModel:
    """A checkpoint with its family. `keys` are those of the GGUF but for its vocabulary and where it comes from.

    `weights` are the files that hold tensors, `notes` say where the GGUF or llama.cpp differ from the checkpoint.
    """

    checkpoint: Checkpoint
    family: Family
    config: Config
    tensors: list[PlannedTensor]
    keys: Keys
    weights: tuple[str, ...]
    notes: tuple[str, ...]

    def tokenizer(self) -> tuple[Reference, list[Vocabulary]]:
        """The checkpoint's own tokenizer, and every way to write it for llama.cpp, the likeliest first.

        Raises:
            BadCheckpoint: there is none, it contradicts itself, or it does not fit the embeddings.
            UnsupportedModel: a kind of tokenizer that llama.cpp does not have.
            MissingPackage: the package `tokenizers` is not installed.
        """
        rows = self.family.dimensions(self.config)["vocab"]
        source = read_source(self.checkpoint, rows)
        text, notes = as_text(source.document), source.notes
        vocabularies = read_vocabularies(self.checkpoint, source, rows)
        del source  # 170 MB for 262,000 tokens
        return Reference(text, notes), vocabularies


@contextmanager
def _whose_config(title: str) -> Iterator[None]:
    """Say of which checkpoint a config.json is that cannot be followed, and what that means."""
    try:
        yield
    except (BadCheckpoint, UnsupportedModel) as error:
        if not error.message.startswith("config.json"):
            raise
        hint = "Copy config.json again from where the checkpoint comes from."
        if isinstance(error, UnsupportedModel):
            hint = "llama.cpp, or this converter, computes nothing else here: the GGUF would be of another model."
        raise type(error)(f"{title}: {error.message}", hint=error.hint or hint) from error


def read_model(source: Path | Files) -> ReadModel:
    """Read the headers of a checkpoint and plan its tensors. The files stay open: `checkpoint.files.close()`.

    Raises:
        ModelNotFound, BadCheckpoint, UnsupportedModel: as `open_checkpoint` and `plan_tensors`.
    """
    checkpoint = open_checkpoint(source)
    with closed_on_error(checkpoint.files), _whose_config(checkpoint.files.title):
        family = architectures.find(checkpoint.config)
        config, remarks = head.settle(checkpoint, family, family.complete(checkpoint.config))
        family.refuse(config)
        if family.dense:
            config = dense.settle(checkpoint, config)
        plan = plan_tensors(checkpoint, family, config)
        parameters = sum(tensor.rows * tensor.columns for tensor in plan)
        keys = {
            **general_keys(checkpoint, family.arch, parameters),
            **family.hyperparameters(config, family.arch),
            **pooling_keys(checkpoint, family.arch, also=("Dense",) if family.dense else ()),
            **read_stored_keys(checkpoint, family, config),
        }
        notes = (*remarks, *family.notes(config), *left_out(checkpoint, family, config))
    weights = tuple(sorted({tensor.file for tensor in checkpoint.stored.values()}))
    return ReadModel(checkpoint, family, config, plan, keys, weights, notes)
