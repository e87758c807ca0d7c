"""What an empty conversation says: how to begin.

Knows nothing but the number of chats.
"""

from __future__ import annotations

from textual.widgets import Static

KEYS = (("Enter", "sends"), ("Ctrl+J", "breaks the line"), ("F1", "shows all keys"))


class Welcome(Static):
    """A few quiet words in the middle."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.show(0)

    def show(self, chats: int) -> None:
        """Say how many chats there are to go on with."""
        lines = ["[b]localllm[/b]", "", *(f"[b]{key}[/b] {meaning}" for key, meaning in KEYS)]
        if chats:
            lines.append(
                f"[b]F3[/b] goes on with {'an earlier chat' if chats == 1 else f'one of {chats} earlier chats'}"
            )
        self.update("\n".join(lines))
