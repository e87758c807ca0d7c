"""What a name to pull turned out to be, and what came of pulling it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from localllm.convert.proof.verification import Verification

Progress = Callable[[int, int], None]
"""Called with what is done and all there is, in the unit of what is pulled."""

Remark = Callable[[str], None]
"""Hears what a person should know: what is waited for, what was found instead."""


@dataclass(frozen=True)
class Pulled:
    """A model that is on this machine now. `path` is what programs are given: the first of its files.

    `received` are the bytes that came over the network; `sha256` the hash of each file that was downloaded, where
    it is of that kind. `origin` is `org/repo@commit`, an address, or empty for what was here. `verification` is the
    proof of what was converted.
    """

    path: Path
    files: tuple[Path, ...]
    received: int = 0
    origin: str = ""
    sha256: dict[Path, str] = field(default_factory=dict)
    verification: Verification | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)


class Found(Protocol):
    """A model that can be fetched."""

    @property
    def converts(self) -> bool:
        """Whether it is converted: then its progress counts weights, else bytes."""

    @property
    def about(self) -> str:
        """What it is and where it comes from, in a line for people."""

    def fetch(self, progress: Progress) -> Pulled:
        """Bring it here. Interrupted or killed, another call goes on with what has arrived.

        Raises:
            DownloadFailed, BadModelFile, BadOutput: see `localllm.library.pulling.pull`.
        """


@dataclass(frozen=True)
class Here:
    """A model that is on this machine already."""

    files: tuple[Path, ...]
    converts: bool = False

    @property
    def about(self) -> str:
        """That nothing has to come."""
        return "already on this machine"

    def fetch(self, progress: Progress) -> Pulled:
        """Nothing is left to do."""
        del progress
        return Pulled(self.files[0], self.files)
