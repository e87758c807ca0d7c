"""The proof of a file that is there: by itself, and against what it is said to be made of.

from localllm.convert import verify_file
proof = verify_file("SmolLM2-135M-Instruct-Q4_K_M.gguf", against="SmolLM2-135M-Instruct")
assert proof.ok, proof.problems
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localllm.convert import origin
from localllm.convert.files import Files, closed_on_error
from localllm.convert.prepared import cores
from localllm.convert.proof.alone import Alone, Problem, check_alone, is_model
from localllm.convert.proof.chats import TemplateProof
from localllm.convert.proof.checks import TensorCheck
from localllm.convert.proof.comparison import Comparison, compare
from localllm.convert.proof.original import open_original
from localllm.convert.proof.roundtrip import total
from localllm.convert.provenance import read_provenance
from localllm.convert.verify import TokenizerProof
from localllm.convert.writer import Progress
from localllm.errors import UnsupportedModel
from localllm.gguf_file import Header, read_parts


@dataclass(frozen=True)
class FileProof:
    """What was found of a file. `notes` are worth knowing.

    `compared` is only there for a file that was compared with a source; `against` is what messages call it.
    `source_here` is a folder on this machine that the file seems to be made of, where it was not compared with any.
    """

    parts: tuple[Header, ...]
    alone: Alone
    seconds: float
    against: str | None = None
    compared: Comparison | None = None
    source_here: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problems

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with it."""
        return (*self.alone.problems, *(self.compared.problems if self.compared else ()))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing."""
        return (*self.alone.notes, *(self.compared.notes if self.compared else ()))

    @property
    def but(self) -> tuple[str, ...]:
        """What is not as in the source although nothing is wrong with the file, in words."""
        return self.compared.but if self.compared else ()

    @property
    def path(self) -> Path:
        """The file, or the first of several."""
        return self.parts[0].path

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(part.file_bytes for part in self.parts)

    @property
    def types(self) -> dict[str, int]:
        """How many tensors each type has, the commonest first."""
        return dict(Counter(info.type_name for part in self.parts for info in part.tensors).most_common())

    @property
    def tokenizer(self) -> TokenizerProof | None:
        """The comparison of the tokenizers."""
        return self.compared.tokenizer if self.compared else None

    @property
    def template(self) -> TemplateProof | None:
        """The chat template, rendered both ways where there is a source."""
        return self.compared.template if self.compared else self.alone.template

    @property
    def checks(self) -> tuple[TensorCheck, ...]:
        """Every tensor that was compared."""
        return self.compared.checks if self.compared else ()

    @property
    def identical(self) -> int:
        """How many tensors hold the very bytes that quantizing the source gives."""
        return sum(check.identical for check in self.checks)

    @property
    def coarser(self) -> bool:
        """Whether the source is quantized itself, and so coarsely that it cannot tell all of the file's weights."""
        return any(check.coarser for check in self.checks)

    @property
    def rmse(self) -> float:
        """How far the weights are off, all together, in units of their root mean square."""
        return total(check.found.loss for check in self.checks).rmse

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the file says that it comes from."""
        return read_provenance(self.parts[0])


def verify_file(
    file: str | Path,
    against: str | Path | Files | None = None,
    *,
    imatrix: str | Path | None = None,
    hash_source: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
) -> FileProof:
    """Check a GGUF by itself and, with `against`, that it is the model in a checkpoint or in another GGUF.

    `file` is any part of a model that is split. By itself: its layout, every block, whether llama.cpp takes it, its
    vocabulary and chat templates. Against a source: the numbers that the network is made with, the tokenizer, the chat
    template rendered both ways, and every weight; what can be made again from the source must be the same to the last
    byte. `imatrix` is the importance matrix with which it was quantized; `hash_source` compares the SHA-256 that the
    file records with the files of the source, which are read once more. `threads` 0 uses every core. `progress` is
    called with the bytes done and in all. Writes nothing.

    Raises:
        ModelNotFound: there is no such file, source or importance matrix.
        BadModelFile: the header of the file is damaged, or it is cut short.
        BadCheckpoint, UnsupportedModel, MissingPackage: the source cannot be compared with.
    """
    began = time.monotonic()
    place = Path(against) if isinstance(against, str) else against
    with closed_on_error(place):
        parts = read_parts(Path(file))
    threads, rounds = threads or cores(), 1 if place is None else 2
    if place is None:
        alone = check_alone(parts, threads, _share(progress, parts, 0, rounds))
        return FileProof(parts, alone, time.monotonic() - began, source_here=_source_here(parts[0]))
    with open_original(place) as original:
        if not is_model(parts[0]):
            raise UnsupportedModel(
                f"{file} is no model with a vocabulary: it cannot be compared with {original.title}.",
                hint="Leave out --against to check the file by itself.",
            )
        alone = check_alone(parts, threads, _share(progress, parts, 0, rounds))
        compared = compare(
            original,
            parts,
            loads=alone.vocabulary is not None,
            imatrix=Path(imatrix) if imatrix else None,
            hash_source=hash_source,
            threads=threads,
            progress=_share(progress, parts, 1, rounds),
        )
    return FileProof(parts, alone, time.monotonic() - began, original.title, compared)


def _share(progress: Progress | None, parts: tuple[Header, ...], number: int, rounds: int) -> Progress | None:
    """A progress that tells of one round through the file among several."""
    whole = sum(part.tensor_bytes for part in parts)

    def report(done: int, of: int) -> None:
        assert progress is not None
        progress(number * whole + whole * done // max(of, 1), rounds * whole)

    return report if progress is not None else None


def _source_here(header: Header) -> Path | None:
    found = {name: str(header.get(f"localllm.source.{name}", "")) for name in ("name", "repository", "revision")}
    near = (header.path.resolve().parent, Path.cwd())
    return origin.find_here(origin.Origin(found["name"], found["repository"], found["revision"]), near)
