"""A model at an address of its own: into the models folder.

Its server tells no hash. Such a file has to stay the same while it is read, and to be a whole GGUF in the end; with the
hash that the person gave, if any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urlsplit

from localllm import settings
from localllm.errors import BadModelFile, BadOutput
from localllm.library import filenames, refusals
from localllm.library.pulling import transfer
from localllm.library.pulling.copies import find_copy, find_web_copy, has_sha256, is_web_copy, is_whole_copy
from localllm.library.pulling.found import Here, Progress, Pulled, Remark
from localllm.library.pulling.request import Address
from localllm.library.pulling.variants import refuse_way_out
from localllm.library.ranges import Fetcher, RemoteFile


@dataclass(frozen=True)
class WebFile:
    """The files of a model, each with whether its server gives parts of it."""

    url: str
    files: tuple[tuple[RemoteFile, bool], ...]
    fetcher: Fetcher
    remark: Remark
    converts: bool = False

    @property
    def about(self) -> str:
        """Its address and size."""
        parts = f" in {len(self.files)} files" if len(self.files) > 1 else ""
        return f"{self.url}, {sum(file.size for file, _ in self.files) / 1e6:,.1f} MB{parts}"

    def fetch(self, progress: Progress) -> Pulled:
        """Download what the models folder lacks.

        Raises:
            DownloadFailed: the server refuses or fails, or the file changes meanwhile.
            BadModelFile: a file is no GGUF; it is removed.
            BadOutput: another file has its name, or the disk has not enough room.
        """
        folder = settings.models_dirs()[0]
        jobs = [
            transfer.Job(file, folder / file.name, folder / ".locks" / f"{file.name}.lock", not parts)
            for file, parts in self.files
        ]
        for job in jobs:
            self._refuse_other(job)
        missing = [job for job in jobs if not job.target.is_file()]
        hint = "Make room, or choose another folder: localllm config set models FOLDER"
        hashes = transfer.fetch(jobs, self.fetcher, progress, self.remark, hint)
        for job in missing:
            if job.target not in hashes:  # another process was faster, with whatever address
                self._refuse_other(job)
        found = tuple(job.target for job in jobs)
        return Pulled(found[0], found, self.fetcher.received, self.url, hashes)

    def _refuse_other(self, job: transfer.Job) -> None:
        """Refuse a file in the way. One that is the same counts as fetched: what arrived of a split model, say."""
        if not job.target.is_file():
            return
        size, wanted = job.target.stat().st_size, job.file.size
        if size != wanted:
            why = f"is another file: it has {size:,} bytes, not {wanted:,}"
        elif not self._is_same(job):
            why = "is another file: it has the same size and other bytes"
        else:
            return
        raise BadOutput(f"{job.target} exists already and {why}.", hint="Move it or remove it first.")

    def _is_same(self, job: transfer.Job) -> bool:
        if job.file.sha256 is not None:
            return has_sha256(job.target, job.file.sha256)
        if not job.whole:
            return is_web_copy(job.target, job.file, self.fetcher)
        self.remark(f"{job.target} exists already; its server gives no parts, so all of it is read and compared")
        return is_whole_copy(job.target, job.file, self.fetcher)


def look_up(address: Address, sha256: str | None, remark: Remark) -> WebFile | Here:
    """Ask the server for its file, and the other parts when it is one of several; one that is here is used.
    `sha256` is the hash that it must have.

    Raises:
        BadModelFile: a hash is given for a model in several parts.
        ModelNotFound: there is none.
        DownloadFailed: the server cannot be reached, refuses, or does not tell the size.
    """
    fetcher = Fetcher(
        address.url, remark, explain=refusals.explain_address, go_on=transfer.GO_ON, direct=sha256 is not None
    )
    names = filenames.names_of_parts(address.name)
    if sha256 and len(names) > 1:
        raise BadModelFile(f"{address.url} is one of {len(names)} parts: one hash does not fit them all.")
    files = []
    for name in names:
        refuse_way_out(address.url, name)
        file, parts = fetcher.ask(_beside(address, name), name)
        files.append((replace(file, sha256=sha256), parts))
    if sha256:
        copy = find_copy(files[0][0], lambda _: None)
    else:
        copy = find_web_copy(files[0][0], fetcher) if len(files) == 1 and files[0][1] else None
    return Here((copy,)) if copy is not None else WebFile(address.url, tuple(files), fetcher, remark)


def _beside(address: Address, name: str) -> str:
    """The address of a file of another name in the same folder; what the person gave stays as it is."""
    if name == address.name:
        return address.url
    parts = urlsplit(address.url)
    folder, slash, last = parts.path.rpartition("/")
    before = unquote(last).removesuffix(address.name)  # of `a%2Fb.gguf` the name is `b.gguf`
    return parts._replace(path=f"{folder}{slash}{quote(before + name, safe='')}").geturl()
