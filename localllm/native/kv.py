"""The KV cache of a context, sequence by sequence: cut, share, copy out and back in.

Knows cells and positions; knows neither which tokens stand there nor who wants them.
"""

from __future__ import annotations

import ctypes

from localllm.native import lib
from localllm.native.handles import ContextHandle, ModelHandle


class KV:
    """The memory of one context. Not for two threads at once.

    `whole` is True where a sequence cannot go back to an arbitrary earlier position: recurrent models hold one state
    for all that was read, and a sliding window drops what is behind it.
    """

    def __init__(self, model: ModelHandle, context: ContextHandle) -> None:
        api = self._api = lib.llama()
        self._context, self._memory = context.pointer, context.memory
        self.window: int = api.llama_model_n_swa(model.pointer)
        self.recurrent = bool(api.llama_model_is_recurrent(model.pointer) or api.llama_model_is_hybrid(model.pointer))

        # Keys are rotated where they are moved, and llama.cpp ends the process over those in bf16.
        self._can_move = context.k_type != "bf16" and bool(api.llama_memory_can_shift(self._memory))

    @property
    def whole(self) -> bool:
        """Whether going back is limited; see the class."""
        return self.recurrent or self.window > 0

    def clear(self, sequence: int | None = None) -> None:
        """Empty one sequence, or all of them."""
        if sequence is None:
            self._api.llama_memory_clear(self._memory, False)
        else:
            self._api.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def cut(self, sequence: int, keep: int) -> bool:
        """Remove what stands from position `keep` on. False if this memory cannot: the caller starts over.

        With a sliding window llama.cpp agrees although cells that a later token needs may be gone, so the oldest
        position left is checked.
        """
        if keep <= 0 or not self._api.llama_memory_seq_rm(self._memory, sequence, keep, -1):
            return False
        if self.window:
            oldest = self._api.llama_memory_seq_pos_min(self._memory, sequence)
            return bool(0 <= oldest <= max(0, keep - self.window))
        return True

    def shift(self, sequence: int, keep: int, gone: int) -> bool:
        """Remove `gone` positions behind the first `keep`, and move up what follows. False if this memory cannot."""
        if self.whole or not self._can_move:
            return False
        if not self._api.llama_memory_seq_rm(self._memory, sequence, keep, keep + gone):
            return False
        self._api.llama_memory_seq_add(self._memory, sequence, keep + gone, -1, -gone)
        return True

    def append(self, sequence: int, spare: int, state: bytearray, position: int) -> bool:
        """Put a saved state, whose first position was 0, behind what `sequence` holds: at `position`.

        `spare` is an empty sequence. False if this memory cannot, or has no room; then nothing changed.
        """
        if self.recurrent or not self._can_move or not self.load(spare, state):
            return False
        self._api.llama_memory_seq_add(self._memory, spare, 0, -1, position)
        self._api.llama_memory_seq_cp(self._memory, spare, sequence, -1, -1)
        self.clear(spare)
        return True

    def share(self, source: int, target: int, keep: int) -> bool:
        """Let `target`, which is empty, have the first `keep` positions of `source` too. No bytes are copied.

        False if this memory cannot; `target` is empty then.
        """
        # A recurrent state is of all positions or of none, and what a window still holds is cut as a whole.
        self._api.llama_memory_seq_cp(self._memory, source, target, 0, -1 if self.whole else keep)
        if self.whole and not self._ends_at(target, keep) and not self.cut(target, keep):
            self.clear(target)
            return False
        return True

    def _ends_at(self, sequence: int, length: int) -> bool:
        return bool(self._api.llama_memory_seq_pos_max(self._memory, sequence) == length - 1)

    def size(self, sequence: int) -> int:
        """Bytes of the state of a sequence."""
        return int(self._api.llama_state_seq_get_size(self._context, sequence))

    def save(self, sequence: int) -> bytearray | None:
        """The state of a sequence, to be given back to `load`; None if llama.cpp gives none."""
        size = self.size(sequence)
        if not size:
            return None
        state = bytearray(size)
        target = (ctypes.c_uint8 * size).from_buffer(state)
        written = self._api.llama_state_seq_get_data(self._context, target, size, sequence)
        return state if written == size else None

    def load(self, sequence: int, state: bytearray) -> bool:
        """Put a saved state into a sequence. False if there is no room or it does not fit; it is empty then."""
        self.clear(sequence)
        source = (ctypes.c_uint8 * len(state)).from_buffer(state)
        if self._api.llama_state_seq_set_data(self._context, source, len(state), sequence):
            return True
        self.clear(sequence)
        return False
