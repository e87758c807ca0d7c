"""Where the person writes: several lines, with what was written before a key away.

Knows nothing of what becomes of a message, and of completion only which word there is to complete.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events, on
from textual.widgets import TextArea

from localllm.chat.attachments import dropped, is_long
from localllm.chat.completing import Choice, Word, command_choices, word_before
from localllm.tui.messages import (
    BackspaceAtStart,
    FilesDropped,
    LongPaste,
    OwnModelWanted,
    PathWanted,
    PromptEdited,
    PromptSent,
)
from localllm.tui.widgets.suggestions import Suggestions


class Prompt(TextArea):
    """Enter sends, Ctrl+J or Shift+Enter breaks the line, Up and Down at the edges walk through earlier messages.

    While `suggestions` are shown, Up and Down choose among them, Tab and Enter take one, Esc puts them away. A message
    without words is sent where it `may_be_empty`.
    """

    # Not bindings: those are found before the letters that were typed ahead of them have arrived here.
    SEND: ClassVar[set[str]] = {"enter"}
    BREAK: ClassVar[set[str]] = {"ctrl+j", "shift+enter", "alt+enter"}

    def __init__(
        self,
        suggestions: Suggestions | None = None,
        may_be_empty: Callable[[], bool] = lambda: False,
        *,
        id: str | None = None,
    ) -> None:
        super().__init__(
            id=id,
            placeholder="Write a message, or / for commands",
            highlight_cursor_line=False,
            tab_behavior="focus",
        )
        # A cursor that blinks repaints twice a second for as long as the app is open.
        self.cursor_blink = False
        self._suggestions = suggestions or Suggestions()
        self._may_be_empty = may_be_empty
        self._offered: Word | None = None
        self._put_away: Word | None = None
        self._history: list[str] = []
        self._at = 0
        self._draft = ""

    def remember(self, prompts: list[str]) -> None:
        """Put what was written in earlier chats before what was written in this one."""
        self._history = [*prompts, *self._history]
        self._at = len(self._history)

    def on_key(self, event: events.Key) -> None:
        """Textual's, before the text area sees the key."""
        if self._complete(event.key):
            event.stop()
            event.prevent_default()
        elif event.key in self.SEND | self.BREAK:
            event.stop()
            event.prevent_default()
            if event.key in self.BREAK:
                self.insert("\n")
                self.scroll_cursor_visible()
            elif self.text.strip() or self._may_be_empty():
                self._send(self.text.strip("\n"))
            else:
                self.post_message(OwnModelWanted())
        elif event.key == "backspace" and self.selection.is_empty and self.cursor_location == (0, 0):
            self.post_message(BackspaceAtStart())

    def _complete(self, key: str) -> bool:
        """Let `key` work on the suggestions, if there are any. Whether it did."""
        word = self._word()
        if key in self.SEND | {"tab"} and word is not None and word != self._offered:
            # The key was typed ahead of the suggestions: commands are known at once, paths are not.
            if word.kind != "command":
                return key == "tab"
            self._offer(word, command_choices(word.text))
        picked = self._suggestions.picked
        if word is None or picked is None:
            return False
        if key in ("up", "down"):
            self._suggestions.move(1 if key == "down" else -1)
        elif key == "escape":
            self._put_away = word
            self._offer(word, [])
        elif key == "tab" or (key in self.SEND and word.kind != "save" and picked.text.strip() != word.text):
            self._take(word, picked, send=key in self.SEND and word.kind == "command")
        else:
            return False
        return True

    def _take(self, word: Word, choice: Choice, *, send: bool) -> None:
        row, column = self.cursor_location
        self.replace(choice.text, (row, word.begin), (row, column))
        self.move_cursor((row, word.begin + len(choice.text)))
        if send and choice.whole:
            self._send(self.text.strip())
        elif choice.whole and word.kind == "mention":
            self.insert(" ")

    def _word(self) -> Word | None:
        row, column = self.cursor_location
        line = self.document[row]
        # A command is complete where something follows it; elsewhere people write in the middle of a line.
        if not self.selection.is_empty or (row == 0 and line.startswith("/") and column < len(line)):
            return None
        return word_before(line[:column], first=row == 0)

    @on(TextArea.Changed)
    def _edited(self, event: TextArea.Changed) -> None:
        event.stop()
        self.post_message(PromptEdited(self.text))
        self._look_again()

    @on(TextArea.SelectionChanged)
    def _moved(self, event: TextArea.SelectionChanged) -> None:
        event.stop()
        self._look_again()

    def _look_again(self) -> None:
        word = self._word()
        if word != self._put_away:
            self._put_away = None
        if word is None or word == self._put_away:
            self._offer(word, [])
        elif word.kind == "command":
            self._offer(word, command_choices(word.text))
        else:
            self.post_message(PathWanted(word))

    def _offer(self, word: Word | None, choices: list[Choice]) -> None:
        self._offered = word
        self._suggestions.show(choices)

    def offer(self, word: Word, choices: list[Choice]) -> None:
        """Show what a path may become, if it is still the word at the cursor."""
        if word == self._word() and word != self._put_away:
            self._offer(word, [] if [choice.text for choice in choices] == [word.text] else choices)

    def pick(self, choice: Choice) -> None:
        """Put a suggestion in place of the word at the cursor."""
        word = self._word()
        if word is not None:
            self._take(word, choice, send=False)
        self.focus()

    def _send(self, text: str) -> None:
        # Emptied here and not when the message is taken: what is typed until then belongs to the next one.
        if text and (not self._history or self._history[-1] != text):
            self._history.append(text)
        self._at, self._draft = len(self._history), ""
        self.clear()
        self._offer(None, [])
        self.post_message(PromptSent(text))

    def put_back(self, text: str) -> None:
        """A message was not taken: it is to be sent again, before what was typed since."""
        self.text = text + self.text
        self.move_cursor(self.document.end)

    def put_back_command(self, text: str) -> None:
        """A command was not carried out: what is typed now takes its place, and what was typed since has taken it."""
        if not self.text:
            self.text = text
            self.select_all()

    def go_to_edge(self, *, end: bool) -> bool:
        """To the beginning of the text, or to its end. Whether the cursor was elsewhere."""
        before = self.selection
        self.move_cursor(self.document.end if end else self.document.start)
        return self.selection != before

    def action_cursor_up(self, select: bool = False) -> None:
        """Up; on the first line, the message before."""
        if select or not self.navigator.is_first_wrapped_line(self.cursor_location) or not self._walk(-1):
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        """Down; on the last line, the message after."""
        if select or not self.navigator.is_last_wrapped_line(self.cursor_location) or not self._walk(1):
            super().action_cursor_down(select)

    def _walk(self, step: int) -> bool:
        at = self._at + step
        if not 0 <= at <= len(self._history):
            return False
        if self._at == len(self._history):
            self._draft = self.text
        self._at = at
        self.text = self._draft if at == len(self._history) else self._history[at]
        self.move_cursor(self.document.end)
        # Up and Down shall walk on, not choose among what a command that was found here could become.
        self._put_away = self._word()
        return True

    def on_paste(self, event: events.Paste) -> None:
        """Textual's, before the text area inserts it: terminals send a pasted line end as a carriage return."""
        event.text = event.text.replace("\r\n", "\n").replace("\r", "\n")
        if paths := dropped(event.text):
            event.prevent_default()
            self.post_message(FilesDropped(paths))
        elif is_long(event.text):
            event.prevent_default()
            self.post_message(LongPaste(event.text))
