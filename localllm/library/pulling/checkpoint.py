"""A checkpoint in a repo: converted while it is downloaded, into the models folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from localllm import settings
from localllm.convert import convert, default_outfile
from localllm.convert.files import Files, closed_on_error
from localllm.convert.quantizations import parse_type
from localllm.errors import BadModelFile, BadOutput
from localllm.gguf_file import read_header
from localllm.library.pulling.found import Here, Progress, Pulled, Remark

TYPE = "Q4_K_M"


@dataclass(frozen=True)
class Checkpoint:
    """The files of a checkpoint, and the quantization type that they are to have as `target`."""

    files: Files
    type: str
    target: Path
    remark: Remark
    unit: str = " weights"

    @property
    def about(self) -> str:
        """Its repo, and what becomes of it."""
        return f"{self.files.title} is a checkpoint: it is converted to {self.type} while it is downloaded"

    def fetch(self, progress: Progress) -> Pulled:
        """Convert it; a conversion that was interrupted goes on.

        Raises:
            DownloadFailed: the hub refuses or fails.
            BadCheckpoint, UnsupportedModel, BadOutput: see `localllm.convert.convert`.
        """
        with closed_on_error(self.files):
            self.target.parent.mkdir(parents=True, exist_ok=True)
        title = self.files.title
        result = convert(self.files, self.target, type=self.type, resume=True, progress=progress, remark=self.remark)
        return Pulled(result.outfile, result.files, self.files.received(), title)


def look_up(files: Files, type: str | None, remark: Remark) -> Checkpoint | Here:
    """What becomes of a checkpoint; `type` is a name of `convert --list-types`, by default Q4_K_M.

    Raises:
        UnsupportedModel: no such type.
        BadOutput: another file has the name of the model.
    """
    with closed_on_error(files):
        kind = parse_type(type or TYPE)
        target = settings.models_dirs()[0] / default_outfile(files, kind)
        if not target.exists():
            return Checkpoint(files, kind, target, remark)
        if not _is_made_of(target, files):
            raise BadOutput(f"{target} exists already and is another model.", hint="Move it or remove it first.")
    files.close()
    return Here((target,))


def _is_made_of(target: Path, files: Files) -> bool:
    """Whether a file was made of this commit of this repo."""
    try:
        header = read_header(target)
    except BadModelFile:
        return False
    named = (header.get("localllm.source.repository"), header.get("localllm.source.revision"))
    return named == (files.origin.repo, files.origin.commit)
