"""The table of characters that SentencePiece replaces before all else, `precompiled_charsmap`.

Four bytes tell the length of a trie, then come the trie and the replacements, each ended by a NUL. The trie is a double
array of the library Darts-clone: a unit of 32 bits is a node or, with its highest bit set, the place of a replacement.
llama.cpp and the `tokenizers` library walk it without looking where they step, so it is checked here once.
"""

from __future__ import annotations

import numpy as np

from localllm.errors import BadCheckpoint


def check_charsmap(table: bytes) -> None:
    """Check that every step in the trie stays inside, and that every replacement is there.

    Raises:
        BadCheckpoint: one does not.
    """
    size = int.from_bytes(table[:4], "little")
    if len(table) < 4 or size % 4 or size == 0 or size > len(table) - 4:
        raise BadCheckpoint(
            f"The tokenizer's precompiled_charsmap is damaged: {len(table)} bytes cannot hold a trie of {size}."
        )
    units = np.frombuffer(table, "<u4", size // 4, 4).astype(np.int64)
    replacements = table[4 + size :]
    places = np.arange(len(units))
    leaves = units >> 31 == 1
    targets = places ^ ((units >> 10) << ((units & 1 << 9) >> 6))
    nodes = ~leaves
    if (targets[nodes] | 0xFF).max(initial=0) >= len(units):
        raise BadCheckpoint("The tokenizer's precompiled_charsmap is damaged: its trie points outside of itself.")
    ending = nodes & (units >> 8 & 1 == 1)
    values = units[targets[ending]] & 0x7FFFFFFF
    if values.max(initial=0) >= len(replacements) or not replacements.endswith(b"\0"):
        raise BadCheckpoint("The tokenizer's precompiled_charsmap is damaged: a replacement is not there.")
    try:
        replacements.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadCheckpoint(f"The tokenizer's precompiled_charsmap is damaged: {error}.") from error
