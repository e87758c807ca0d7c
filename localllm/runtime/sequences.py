"""Which tokens stand in the KV cache, in which sequence, and what of a new prompt is there already.

Every sequence of the context holds one conversation, or the start that it shares with another; the cells are shared,
not copied. A conversation that has to give way goes to RAM, and from there to disk. Knows nothing of replies, and
computes nothing.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from localllm.native.kv import KV
from localllm.runtime.disk import Disk
from localllm.runtime.snapshots import Snapshots
from localllm.runtime.states import State, States
from localllm.runtime.tokens import shared

WORTH_KEEPING = 32
"""Tokens. Computing fewer again is as cheap as finding them in RAM."""

WORTH_LEAVING = 256
"""Cells. llama.cpp looks at so many at once, so fewer of others cost nothing."""


@dataclass(eq=False)
class Sequence:
    """A sequence of the context. `tokens` are what it holds, `taken` says that a reply works with it.

    `settled` is False while the KV cache may hold something else than `tokens`: in the middle of a decode.
    """

    id: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    taken: bool = False
    settled: bool = True
    used: int = 0


class Sequences:
    """The `count` sequences of a context. For the thread that has the engine.

    What leaves the cache takes up to `ram` bytes; what does not fit there goes to `disk`. With `looks_at_all` every
    token costs what all cells in use do, those of other conversations too: so these leave as long as RAM has room.
    """

    def __init__(
        self, kv: KV, count: int, ram: int, disk: Snapshots | None = None, *, looks_at_all: bool = False
    ) -> None:
        self._kv = kv
        self._looks_at_all = looks_at_all
        self._all = [Sequence(number) for number in range(count)]
        self._clock = itertools.count(1)
        self._disk = Disk(disk)
        self.states = States(ram, whole=kv.whole, dropped=self._disk.put)

    def take(self, prompt: array[int], *, anew: bool = False) -> Sequence | None:
        """A sequence for a reply to `prompt`, holding as much of its start as is anywhere; None if all are taken.

        With `anew` it is empty, and what others hold stays.

        The last token of the prompt is never in it: a token has to be evaluated for there to be something to sample.
        """
        free = [sequence for sequence in self._all if not sequence.taken]
        if not free:
            return None
        for sequence in free:
            self.settle(sequence)
        if self._looks_at_all and not self._kv.whole:
            self._send_away(prompt, free)
        known = None if anew else self._resume(prompt, free) or self._branch(prompt, free)
        chosen = known or self._emptied(free)
        chosen.taken = True
        self._touch(chosen)
        return chosen

    def release(self, sequence: Sequence) -> None:
        """A reply is done with it; what it holds stays for the next one."""
        sequence.taken = False
        self._touch(sequence)

    def take_back(self, sequence: Sequence, count: int) -> None:
        """The last `count` tokens that it holds were guessed wrong."""
        if count:
            self._cut(sequence, len(sequence.tokens) - count)

    def begin(self, sequence: Sequence) -> None:
        """A decode into it begins."""
        sequence.settled = False

    def added(self, sequence: Sequence, tokens: array[int]) -> None:
        """A decode put `tokens` behind what it holds."""
        sequence.tokens.extend(tokens)
        sequence.settled = True

    def settle(self, sequence: Sequence) -> None:
        """A decode into it failed or was stopped, and may have left a part: back to what is known, or to nothing."""
        if sequence.settled:
            return
        if sequence.tokens and self._kv.cut(sequence.id, len(sequence.tokens)):
            sequence.settled = True
        else:
            self._empty(sequence)

    def shift(self, sequence: Sequence, tokens: array[int]) -> bool:
        """Take out of its middle what `tokens` leave out, and move up what is behind it. False if that cannot be.

        What is moved was computed with what is gone; computing it anew would not give quite the same.
        """
        self.settle(sequence)
        held = sequence.tokens
        keep = shared(held, tokens)
        gone = len(held) - len(tokens) + 1  # the last of the tokens is not evaluated yet
        if gone <= 0 or held[keep + gone :] != tokens[keep:-1]:
            return False
        # Cells that another sequence has, too, would be moved for both.
        if any(shared(held, other.tokens) > keep + gone for other in self._all if other is not sequence):
            return False
        if not self._kv.shift(sequence.id, keep, gone):
            return False
        sequence.tokens = held[:keep] + held[keep + gone :]
        return True

    def checkpoint(self, sequence: Sequence) -> None:
        """For a memory that cannot go back: keep a way back to here."""
        if self._kv.whole and not self.states.covers(sequence.tokens):
            self._save(sequence)

    def make_room(self) -> bool:
        """Move the conversation that was used longest ago out of the KV cache. False if there is none to move."""
        idle = [sequence for sequence in self._all if not sequence.taken and sequence.tokens]
        if not idle:
            return False
        self._park(min(idle, key=lambda sequence: sequence.used))
        return True

    def park(self, sequence: Sequence) -> None:
        """Take a sequence from its reply, which will ask for one again, and move what it holds to RAM."""
        sequence.taken = False
        self._park(sequence)

    def keep(self) -> None:
        """Write to disk what is in the KV cache and in RAM, what was used last first, as far as time allows."""
        self._disk.keep(self._recent_first())

    def _recent_first(self) -> Iterator[State]:
        for sequence in sorted(self._all, key=lambda sequence: -sequence.used):
            if sequence.settled and self._disk.wants(sequence.tokens):
                data = self._kv.save(sequence.id)
                if data is not None:
                    yield State(sequence.tokens, data)
        yield from reversed(self.states.held())

    def clear(self) -> None:
        """Empty the KV cache and the RAM, and remove what is on disk."""
        self._kv.clear()
        self.states.clear()
        self._disk.clear()
        for sequence in self._all:
            sequence.tokens = array("i")
            sequence.settled = True

    def cells(self) -> int:
        """Cells of the KV cache that hold something: what sequences share counts once."""
        total = 0
        for index, sequence in enumerate(self._all):
            before = (shared(sequence.tokens, other.tokens) for other in self._all[:index])
            total += len(sequence.tokens) - max(before, default=0)
        return total

    def disk_bytes(self) -> int:
        """Bytes of what is on disk."""
        return self._disk.bytes()

    def taken_cells(self) -> int:
        """Cells that replies need now, or fewer where they share some."""
        return sum(len(sequence.tokens) for sequence in self._all if sequence.taken)

    def latest(self) -> int:
        """Tokens of the conversation that was used last."""
        return len(max(self._all, key=lambda sequence: sequence.used).tokens)

    def spared(self, prompt: array[int]) -> int:
        """How many tokens of `prompt` need not be computed, wherever they are. Moves nothing."""
        here = max((self._reach(prompt, held.tokens) for held in self._all if held.settled), default=0)
        here = max(here, self.states.best(prompt)[1])
        return max(here, self._disk.spared(prompt, here))

    def _send_away(self, prompt: array[int], free: list[Sequence]) -> None:
        """Move what idles to RAM, but for what the prompt goes on from: a copy costs what some tokens' looks do."""
        best = max(free, key=lambda held: self._reach(prompt, held.tokens))
        reach = self._reach(prompt, best.tokens)
        needed = reach >= self.states.best(prompt)[1] and 2 * reach >= len(best.tokens)
        stay = [held for held in self._all if held.taken or (needed and held is best)]
        own: dict[Sequence, int] = {}  # cells that are gone with it: those of a branch's trunk stay with the others
        for held in (held for held in free if held not in stay):
            own[held] = len(held.tokens) - max((shared(held.tokens, other.tokens) for other in stay), default=0)
        if sum(own.values()) >= WORTH_LEAVING:
            for held in (held for held, cells in own.items() if cells >= WORTH_KEEPING):
                if self.states.covers(held.tokens) or self.states.has_room(held.tokens, self._kv.size(held.id)):
                    self._park(held)

    def _resume(self, prompt: array[int], free: list[Sequence]) -> Sequence | None:
        """A free sequence that the prompt simply continues."""
        fitting = [held for held in free if held.tokens and prompt[: len(held.tokens)] == held.tokens]
        fitting = [held for held in fitting if len(held.tokens) < len(prompt)]
        best = max(fitting, key=lambda held: len(held.tokens), default=None)
        if best is None or self._most_elsewhere(prompt, best) > len(best.tokens):
            return None
        return best

    def _most_elsewhere(self, prompt: array[int], but: Sequence) -> int:
        others = (self._reach(prompt, held.tokens) for held in self._all if held is not but and held.settled)
        here = max(*others, self.states.best(prompt)[1], 0)
        return max(here, self._disk.spared(prompt, len(but.tokens)))

    def _reach(self, prompt: array[int], held: array[int]) -> int:
        """How much of `held` a reply to `prompt` could start from."""
        length = min(shared(prompt, held), len(prompt) - 1)
        return length if not self._kv.recurrent or length == len(held) else 0

    def _branch(self, prompt: array[int], free: list[Sequence]) -> Sequence | None:
        """A sequence that begins as another one does, which stays as it is; or as a state in RAM or on disk."""
        length, source = self._nearest(prompt)
        state, stored = self.states.best(prompt)
        state, stored = self._disk.find(prompt, max(length, stored)) or (state, stored)
        if source is not None and length and length >= stored:
            branch = self._branch_of(source, length, free)
            if branch is not None:
                return branch
        if state is not None and stored:
            chosen = self._emptied(free)
            while not self._kv.load(chosen.id, state.data):
                if not self.make_room():  # what a reply holds takes no cells anew
                    length, source = self._nearest(prompt)
                    return self._branch_of(source, length, free) if source is not None and length else None
            self.states.touch(state)
            chosen.tokens = state.tokens[:]
            if stored == len(chosen.tokens) or self._cut(chosen, stored):
                return chosen
        return None

    def _nearest(self, prompt: array[int]) -> tuple[int, Sequence | None]:
        """How much a reply to `prompt` could start from that is in the KV cache, and where; rather where none works."""
        reaches = [(self._reach(prompt, held.tokens), held) for held in self._all if held.settled]
        return max(reaches, key=lambda reach: (reach[0], not reach[1].taken), default=(0, None))

    def _branch_of(self, source: Sequence, length: int, free: list[Sequence]) -> Sequence | None:
        others = [held for held in free if held is not source]
        if not source.taken and (not others or len(source.tokens) - length < WORTH_KEEPING):
            # Nowhere to branch to, or nothing lost.
            if len(source.tokens) - length >= WORTH_KEEPING and not self.states.covers(source.tokens):
                self._save(source)
            return source if self._cut(source, length) else None
        if not others:
            return None
        target = self._emptied(others)
        if not self._kv.share(source.id, target.id, length):
            return None
        target.tokens = source.tokens[:length]
        return target

    def _cut(self, sequence: Sequence, length: int) -> bool:
        """Cut it back; False if that cannot be, and then it is empty, with what it held in RAM."""
        if self._kv.whole:
            self.checkpoint(sequence)
        if self._kv.cut(sequence.id, length):
            del sequence.tokens[length:]
            return True
        self._empty(sequence)
        return False

    def _emptied(self, free: list[Sequence]) -> Sequence:
        """The free sequence that is missed least, empty."""
        chosen = min(free, key=lambda sequence: (bool(sequence.tokens), sequence.used))
        self._park(chosen)
        return chosen

    def _park(self, sequence: Sequence) -> None:
        """Empty a sequence; what only it holds goes to RAM."""
        others = (shared(sequence.tokens, other.tokens) for other in self._all if other is not sequence)
        alone = len(sequence.tokens) - max(others, default=0)
        if sequence.settled and alone >= WORTH_KEEPING and not self.states.covers(sequence.tokens):
            self._save(sequence)
        self._empty(sequence)

    def _save(self, sequence: Sequence) -> None:
        data = self._kv.save(sequence.id)
        if data is not None:
            self.states.put(sequence.tokens, data)

    def _empty(self, sequence: Sequence) -> None:
        self._kv.clear(sequence.id)
        sequence.tokens = array("i")
        sequence.settled = True

    def _touch(self, sequence: Sequence) -> None:
        sequence.used = next(self._clock)
