"""States of conversations on disk, so that one that is opened again tomorrow is not computed again.

One file for each, under a budget of bytes: the least recently used give way. A file that is damaged, or was made for a
model file or a version that is no more, is ignored and removed. Knows no llama.cpp.

The format of a file is in `snapshot_file`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from localllm.runtime import snapshot_file
from localllm.runtime.snapshot_file import Identity, KnownText, Snapshot
from localllm.runtime.tokens import best_start, starts_with

ABANDONED_SECONDS = 3600


class Snapshots:
    """The snapshots in `folder` that are good for `identity`. `budget` is in bytes, of all files in the folder.

    `texts_of` tells what is known of the texts of the tokens of a new one; `texts` tells it again later.

    `whole` is as for `States`. Nothing here fails for a disk that does: then there is no snapshot. Not for two threads
    at once; other processes may use the folder too, and when none of them writes it is within the smallest budget.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        budget: int,
        *,
        whole: bool,
        texts_of: Callable[[array[int]], tuple[KnownText, ...]] = lambda _: (),
    ) -> None:
        self.budget = budget
        self._folder, self._identity, self._whole, self._texts_of = folder, identity, whole, texts_of
        self._held: dict[Path, Snapshot] = {}
        for path in self._files():
            if path.name.startswith(identity.prefix):
                self._add(path)
            elif self._is_stale(path.name):
                _remove(path)

    def texts(self) -> Iterator[KnownText]:
        """What is known of the texts of all of them."""
        for snapshot in self._held.values():
            yield from snapshot.texts

    def bytes(self) -> int:
        """Bytes of the states that are good for the identity."""
        return sum(snapshot.size for snapshot in list(self._held.values()))

    def best(self, prompt: array[int]) -> tuple[Snapshot | None, int]:
        """The snapshot that spares the most of `prompt`, and how many tokens that is; the last one is never spared."""
        return best_start(self._held.values(), prompt, whole=self._whole)

    def load(self, snapshot: Snapshot) -> bytearray | None:
        """The state; None if the file is gone or damaged, and then it is removed."""
        state = snapshot_file.state_of(snapshot)
        if state is None:
            # Another process may have written it anew, and its header is longer or shorter now.
            self._held.pop(snapshot.path, None)
            self._add(snapshot.path)
            anew = self._held.get(snapshot.path)
            state = snapshot_file.state_of(anew) if anew is not None else None
        if state is None:
            self._forget(snapshot)
        return state

    def used(self, snapshot: Snapshot) -> None:
        """It gives way later than those that were used before."""
        with contextlib.suppress(OSError):  # gone meanwhile
            os.utime(snapshot.path)

    def covers(self, tokens: array[int]) -> bool:
        """Whether there is one that begins with `tokens`, or with `whole` is exactly of them."""
        return any(
            starts_with(held.tokens, tokens) and (not self._whole or len(held.tokens) == len(tokens))
            for held in self._held.values()
        )

    def put(self, tokens: array[int], state: bytearray, *, deadline: float = float("inf")) -> None:
        """Write a snapshot; older ones give way. None is written that is larger than the budget, that is there
        already, or that is not written by `deadline`, a time of `time.monotonic()`."""
        if self.covers(tokens) or len(state) > self.budget:
            return  # before a CRC is made of it all
        path = self._folder / f"{self._identity.prefix}-{snapshot_file.digest(tokens.tobytes())}.kv"
        head = snapshot_file.head(self._identity, tokens, state, self._texts_of(tokens))
        if len(head) + len(state) > self.budget:
            return
        part: Path | None = None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(len(head) + len(state))
            # What a person said is in it: for nobody else, as mkstemp makes it.
            descriptor, name = tempfile.mkstemp(".part", path.stem, self._folder)
            part = Path(name)
            with os.fdopen(descriptor, "wb") as file:
                file.write(head)
                whole = snapshot_file.write(file, state, deadline)
            if whole:
                part.replace(path)
                self._add(path)
                self._make_room(0)  # again: other processes may have written, too
        except OSError:
            pass  # the conversation is safe, and will be computed again
        finally:
            if part is not None:
                _remove(part)
        if path in self._held and not self._whole:
            for older in [held for held in self._held.values() if held.path != path]:
                if starts_with(tokens, older.tokens):
                    self._forget(older)

    def clear(self) -> None:
        """Remove those that are good for this identity."""
        for snapshot in list(self._held.values()):
            self._forget(snapshot)

    def _add(self, path: Path) -> None:
        try:
            self._held[path] = snapshot_file.read(path, self._identity)
        except OSError:
            pass
        except snapshot_file.Damaged:
            _remove(path)

    def _forget(self, snapshot: Snapshot) -> None:
        self._held.pop(snapshot.path, None)
        _remove(snapshot.path)

    def _files(self) -> list[Path]:
        try:
            return [path for path in self._folder.iterdir() if path.suffix == ".kv"]
        except OSError:
            return []

    def _is_stale(self, name: str) -> bool:
        """Whether it was made for what was then in the place of our model's file."""
        mine, now, _ = self._identity.prefix.split("-")
        parts = name.split("-")
        return len(parts) == 4 and parts[0] == mine and parts[1] != now

    def _make_room(self, size: int) -> None:
        """Remove the files that were used longest ago until `size` bytes more are within the budget."""
        found: list[tuple[float, int, Path]] = []
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                state = path.stat()
                if path.suffix == ".kv":
                    found.append((state.st_mtime, state.st_size, path))
                elif path.suffix == ".part" and time.time() - state.st_mtime > ABANDONED_SECONDS:
                    _remove(path)
        total = sum(size for _, size, _ in found) + size
        for _, freed, path in sorted(found):
            if total <= self.budget:
                break
            self._held.pop(path, None)
            _remove(path)
            total -= freed


def remove_unused(folder: Path, since: float = float("inf")) -> None:
    """Remove the snapshots of all models that were not used from `since` on, in seconds since 1970; by default, all.

    What was said is in them; only a loaded model could tell in which chat. A process that had one computes it again.
    """
    for path in [*folder.glob("*.kv"), *folder.glob("*.part")]:
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < since:
                path.unlink()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
