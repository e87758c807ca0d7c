"""The files of one model, one after the other, each by one process only, where the disk has room for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout
from huggingface_hub.utils import WeakFileLock

from localllm.library.pulling.download import Download
from localllm.library.pulling.found import Progress, Remark
from localllm.library.pulling.partial import Partial, bytes_of, discard, writing
from localllm.library.ranges import Fetcher, RemoteFile
from localllm.library.room import refuse_without_room

GO_ON = "Check the network; the same command goes on with what has arrived."

_SHA256 = 64

_FIRST_WAIT, _WAIT = 0.05, 1.0


@dataclass(frozen=True)
class Job:
    """A file to fetch, where to, and the lock of who does it. `whole`: its server gives no parts."""

    file: RemoteFile
    target: Path
    lock: Path
    whole: bool = False


def fetch(jobs: Sequence[Job], fetcher: Fetcher, progress: Progress, remark: Remark, hint: str) -> dict[Path, str]:
    """Fetch the files that are not there yet; returns the SHA-256 of what was fetched, where it is known.

    `hint` says what to do when the disk has not enough room.

    Raises:
        DownloadFailed, BadModelFile: a file cannot be fetched, or is not what it should be.
        BadOutput: the disk has not enough room, or fails.
    """
    for job in jobs:
        if job.target.is_file():
            discard(job.target)  # a process that was killed just before its end left it
    missing = [job for job in jobs if not job.target.is_file()]
    needed = sum(job.file.size - bytes_of(job.target) for job in missing)
    if needed > 0:
        refuse_without_room(f"The download of {missing[0].file.name}", missing[0].target.parent, needed, hint)
    total, done = sum(job.file.size for job in jobs), 0
    hashes: dict[Path, str] = {}
    for job in jobs:
        if job in missing:
            digest = _fetch(job, fetcher, after(done, total, progress), remark)
            hashes.update({job.target: digest} if len(digest) == _SHA256 else {})
        done += job.file.size
    return hashes


def _fetch(job: Job, fetcher: Fetcher, count: Callable[[int], None], remark: Remark) -> str:
    """Fetch a file; returns its hash, or nothing when another process has fetched it meanwhile."""
    with held(job.lock, job.file.name, remark, count):
        if job.target.is_file():
            return ""
        partial = Partial(job.target, job.file.size, job.file.version)
        download = Download(fetcher, job.file, partial, whole=job.whole)
        try:
            return download.run(count)
        finally:
            if download.is_over():
                partial.close()


def after(done: int, total: int, progress: Progress) -> Callable[[int], None]:
    """Tells of the bytes of a file that comes after so many others."""
    return lambda here: progress(done + here, total)


@contextmanager
def held(lock: Path, what: str, remark: Remark, count: Callable[[int], None]) -> Iterator[None]:
    """Be the only process that downloads a file. Who has to wait for another one is told, and may cancel in `count`.

    Raises:
        BadOutput: the lock cannot be written.
    """
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
    wait = _FIRST_WAIT
    while True:
        mine = WeakFileLock(lock, timeout=wait)
        try:
            mine.__enter__()
            break
        except Timeout:  # an OSError, too
            count(0)
            if wait == _FIRST_WAIT:
                remark(f"another process is downloading {what}; waiting for it")
            wait = _WAIT
        except OSError as error:
            with writing(lock):
                raise error
    try:
        yield
    finally:
        mine.__exit__(None, None, None)
