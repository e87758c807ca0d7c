"""Whole files of a repo go to the hub's cache on this machine, by the hub's own library: others find them there.

One thread downloads, the others wait for the file that they want to read.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HTTPError
from tqdm import tqdm

from localllm.errors import Cancelled, DownloadFailed
from localllm.library import refusals
from localllm.library.ranges import RemoteFile
from localllm.library.room import refuse_without_room

_CHUNK = 4 << 20


class Keeper:
    """Downloads `files`, in this order, from `start` on. `revision` is the name by which the commit was asked for."""

    def __init__(self, repo: str, revision: str, commit: str, files: Sequence[RemoteFile]) -> None:
        self.repo, self.revision, self.commit, self.files = repo, revision, commit, files
        self.received = 0
        self._paths: dict[str, Path] = {}
        self._failure: BaseException | None = None
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def keeps(self, name: str) -> bool:
        """Whether it has begun, and a file is or will be among those downloaded."""
        return self._thread is not None and any(file.name == name for file in self.files)

    def start(self) -> None:
        """Begin, unless it has begun.

        Raises:
            BadOutput: the disk has not enough room for all.
        """
        if self._thread is None:
            hint = "Without --keep-download it is not stored; HF_HOME moves the cache."
            size = sum(file.size for file in self.files)
            refuse_without_room(f"The download of {self.repo}", Path(constants.HF_HUB_CACHE), size, hint)
            self._thread = threading.Thread(target=self._work, name="download", daemon=True)
            self._thread.start()

    def wait(self, name: str) -> Path:
        """Where the file is, as soon as it is there.

        Raises:
            DownloadFailed: it could not be downloaded, or is not what the hub says it is.
            Cancelled: `stop` was called.
        """
        with self._changed:
            while name not in self._paths:
                if self._failure is not None:
                    raise self._failure
                if self._stopped.is_set():
                    raise Cancelled(f"The download of {self.repo} was stopped.")
                self._changed.wait()
            return self._paths[name]

    def stop(self) -> None:
        """End the download; what arrived of a file stays in the cache and is not downloaded again."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the thread, at most so long."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _work(self) -> None:
        try:
            # The hub's library notes which commit a revision is when it is asked for the revision by its name.
            revision = self.revision
            for file in self.files:
                path = self._download(file, revision)
                revision = self.commit
                with self._changed:
                    self._paths[file.name] = path
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _download(self, file: RemoteFile, revision: str) -> Path:
        counting = _counting(self._count)
        try:
            path = Path(hf_hub_download(self.repo, file.name, revision=revision, tqdm_class=counting))
        except (HTTPError, OSError, ValueError) as error:
            if self._stopped.is_set():
                raise Cancelled(f"The download of {self.repo} was stopped.") from error
            refused = refusals.explain(error, self.repo, revision)
            raise refused or DownloadFailed(
                f"{self.repo}: {file.name} could not be downloaded: {str(error).splitlines()[0]}",
                hint="The same command goes on with what has arrived.",
            ) from error
        if file.sha256 is not None and _sha256(path, self._stopped) != file.sha256:
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise DownloadFailed(
                f"{self.repo}: {file.name} is not what the hub says it is: its SHA-256 is another one.",
                hint="It was removed; the same command downloads it again.",
            )
        return path

    def _count(self, size: int) -> None:
        self.received += size
        if self._stopped.is_set():
            raise Cancelled(f"The download of {self.repo} was stopped.")


def _counting(count: Callable[[int], None]) -> type[Any]:
    """A progress bar that shows nothing and counts."""

    class Counting(tqdm):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            count(int(n or 0))
            return super().update(n)

    return Counting


def _sha256(path: Path, stopped: threading.Event) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while (chunk := file.read(_CHUNK)) and not stopped.is_set():
            digest.update(chunk)
    if stopped.is_set():
        raise Cancelled("The download was stopped.")
    return digest.hexdigest()
