"""A checkpoint in a repo: converted while it is downloaded, into the models folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localllm import settings
from localllm.convert import convert
from localllm.convert.files import Files
from localllm.convert.origin import Origin
from localllm.convert.quantizations import parse_type
from localllm.convert.writer import NOTHING_YET
from localllm.errors import BadModelFile, BadOutput
from localllm.gguf_file import read_header
from localllm.library.pulling.found import Here, Progress, Pulled, Remark
from localllm.library.pulling.variants import USUAL


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint of `origin`, which `open` gives, and the quantization type that it is to have as `target`."""

    origin: Origin
    open: Callable[[], Files]
    type: str
    target: Path
    remark: Remark
    converts: bool = True

    @property
    def about(self) -> str:
        """Its repo, and what becomes of it."""
        return f"{self._title} is a checkpoint: it is converted to {self.type} while it is downloaded"

    @property
    def _title(self) -> str:
        return f"{self.origin.repo}@{self.origin.commit[:8]}"

    def fetch(self, progress: Progress) -> Pulled:
        """Convert it; a conversion that was interrupted goes on.

        Raises:
            DownloadFailed: the hub refuses or fails.
            BadCheckpoint, UnsupportedModel, BadOutput: see `localllm.convert.convert`.
        """
        self.target.parent.mkdir(parents=True, exist_ok=True)
        files = self.open()
        result = convert(files, self.target, type=self.type, resume=True, progress=progress, remark=self._tell)
        return Pulled(result.outfile, result.files, files.received(), self._title, verification=result.verification)

    def _tell(self, remark: str) -> None:
        if remark != NOTHING_YET:
            self.remark(remark)


def look_up(origin: Origin, open: Callable[[], Files], type: str | None, remark: Remark) -> Checkpoint | Here:
    """What becomes of a checkpoint; `type` is a name of `convert --list-types`, by default Q4_K_M.

    Raises:
        UnsupportedModel: no such type.
        BadOutput: another file has the name of the model.
    """
    kind = parse_type(type or USUAL)
    target = settings.models_dirs()[0] / f"{origin.name}-{kind}.gguf"
    if not target.exists():
        return Checkpoint(origin, open, kind, target, remark)
    if not _is_made_of(target, origin):
        raise BadOutput(f"{target} exists already and is another model.", hint="Move it or remove it first.")
    return Here((target,))


def _is_made_of(target: Path, origin: Origin) -> bool:
    """Whether a file was made of this commit of this repo."""
    try:
        header = read_header(target)
    except BadModelFile:
        return False
    named = (header.get("localllm.source.repository"), header.get("localllm.source.revision"))
    return named == (origin.repo, origin.commit)
