"""What to do when the next message does not fit: leave turns out, summarise them, a larger context, or a branch.

Shows a `Crowding` and what larger contexts cost; the answer is a `Remedy`. Does nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from localllm.counts import counted
from localllm.tui.amounts import size, tokens
from localllm.tui.messages import Crowded, GrowthsPlanned
from localllm.tui.remedies import Branch, Grow, LeaveOut, Remedy, SendAgain, Summarise, TakeBack
from localllm.tui.room import Crowding, Growth
from localllm.tui.wrapping import printable

LISTED = 6
"""Of so many turns the first line is shown."""

_STILL_TOO_MUCH = "the rest is still more than the context holds: take more turns with →"


class FullContext(ModalScreen[Remedy | None]):
    """The choices; Esc leaves all as it is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Leave it"),
        Binding("left", "count(-1)", "One turn less", priority=True),
        Binding("right", "count(1)", "One turn more", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._crowding: Crowding | None = None
        self._growths: Sequence[Growth] | None = None
        self._count = 0

    @property
    def is_stuck(self) -> bool:
        """Whether the full context is why the last turn has no whole answer."""
        return self._crowding is not None and self._crowding.is_stuck

    def compose(self) -> ComposeResult:
        """Textual's."""
        with Vertical(id="full-context") as box:
            box.border_title = "Room in the context"
            yield Static("counting tokens…", id="full-context-why")
            yield OptionList(id="full-context-choices")
            yield Static(id="full-context-turns")

    @on(Crowded)
    def _crowded(self, event: Crowded) -> None:
        self._crowding = event.crowding
        self._count = event.crowding.advised()
        self._draw()

    @on(GrowthsPlanned)
    def _planned(self, event: GrowthsPlanned) -> None:
        self._growths = event.growths
        self._draw()

    def _draw(self) -> None:
        crowding = self._crowding
        if crowding is None:
            return
        if crowding.is_full:
            self.query_one("#full-context", Vertical).border_title = "The context is full"
        self.query_one("#full-context-why", Static).update(Content(why(crowding)))
        choices, chosen = self.query_one(OptionList), self._chosen()
        choices.set_options(self._options(crowding))
        usable = {option.id: index for index, option in enumerate(choices.options) if not option.disabled}
        choices.highlighted = usable.get(chosen, min(usable.values(), default=None))
        self._list_turns()

    def _options(self, crowding: Crowding) -> list[Option]:
        back = [_option("back", "Take the message back", "it is in the prompt then, to be shortened or cut into parts")]
        last = [*_sending_again(crowding), *(back if crowding.waits else [])]
        if crowding.is_hopeless or not crowding.spare:
            return [*self._growing(crowding), *last]
        return [*self._letting_go(crowding), *last]

    def _letting_go(self, crowding: Crowding) -> list[Option]:
        count = self._count
        oldest = "the oldest turn" if count == 1 else f"the oldest {count} turns"
        newest = "the last turn" if count == 1 else f"the last {count} turns"
        short = crowding.can_summarise(count)
        how = (
            "the model writes what is sent in their place"
            if short
            else "too long to be read at once" + (": take fewer" if count > 1 else "")
        )
        enough = crowding.fits_without(crowding.turns[:count])
        left = f"{tokens(crowding.left(count))} of {tokens(crowding.n_ctx)} tokens are left to send; F6 takes it back"
        passed = crowding.fits_without(crowding.turns[crowding.spare - count : crowding.spare])
        there = "ask this there; what it passes over stays as a branch" if passed else _STILL_TOO_MUCH
        return [
            _option("leave", f"Leave out {oldest}", left if enough else _STILL_TOO_MUCH, disabled=not enough),
            _option(
                "summarise",
                f"Summarise {oldest}",
                how if enough else _STILL_TOO_MUCH,
                disabled=not short or not enough,
            ),
            *self._growing(crowding),
            _option("branch", f"Branch off before {newest}", there, disabled=not passed),
        ]

    def _growing(self, crowding: Crowding) -> list[Option]:
        if self._growths is None:
            return [_option("grow", "Grow the context", "planning what that takes…", disabled=True)]
        if not self._growths:
            trained = f"the model was trained for {tokens(crowding.trained)} tokens"
            least = trained if crowding.n_ctx < crowding.trained else "this is all that the model was trained for"
            return [_option("grow", "Grow the context", least, disabled=True)]
        return [
            _option(
                f"grow {number}",
                f"Grow the context to {tokens(growth.plan.n_ctx)} tokens",
                f"{size(growth.more)} more · {'fits' if growth.fits else 'does not fit now'} · the model loads again",
                disabled=not growth.fits,
            )
            for number, growth in enumerate(self._growths)
        ]

    def _list_turns(self) -> None:
        crowding, chosen = self._crowding, self._chosen()
        lines: list[str] = []
        if crowding is not None and chosen in ("leave", "summarise", "branch") and crowding.spare:
            first = crowding.spare - self._count if chosen == "branch" else 0
            turns = crowding.turns[first : first + self._count]
            lines = [f"{tokens(turn.tokens):>7}  {printable(turn.title)}" for turn in turns[:LISTED]]
            if len(turns) > LISTED:
                lines.append(f"{'':>7}  and {len(turns) - LISTED} more")
            lines.append("← → fewer or more turns")
        self.query_one("#full-context-turns", Static).update(Content("\n".join(lines)))

    def _chosen(self) -> str:
        option = self.query_one(OptionList).highlighted_option
        return option.id or "" if option is not None else ""

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._list_turns()

    def action_count(self, step: int) -> None:
        """One turn less or more."""
        if self._crowding is not None and 1 <= self._count + step <= self._crowding.spare:
            self._count += step
            self._draw()

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        crowding, choice = self._crowding, event.option_id or ""
        if crowding is None:
            return
        if choice.startswith("grow ") and self._growths is not None:
            self.dismiss(Grow(self._growths[int(choice.partition(" ")[2])].plan.options))
            return
        if choice in ("back", "again"):
            self.dismiss(TakeBack() if choice == "back" else SendAgain())
            return
        first = crowding.turns[self._count].begin
        branch = crowding.turns[crowding.spare - self._count]
        remedies: dict[str, Remedy] = {
            "leave": LeaveOut(first),
            "summarise": Summarise(first, self._count),
            "branch": Branch(branch.before),
        }
        self.dismiss(remedies[choice])


def why(crowding: Crowding) -> str:
    """What is the matter, in a sentence."""
    needed, holds = tokens(crowding.needed), tokens(crowding.n_ctx)
    if crowding.turns and crowding.is_hopeless:
        alone = tokens(crowding.left(crowding.spare))
        without = f" ({alone} without the earlier turns)" if crowding.spare else ""
        return f"The model has {needed} tokens to read{without}, and the context holds {holds}."
    if crowding.needed < crowding.n_ctx:
        so = "so the answer may have no room to end" if crowding.is_full else "so there is room for an answer"
        return f"The model has {needed} tokens to read, of {holds} that the context holds, {so}."
    return f"The model has {needed} tokens to read, and the context holds {holds}."


def _sending_again(crowding: Crowding) -> list[Option]:
    gone = crowding.left_out
    if gone is None:
        return []
    takes, holds = tokens(crowding.needed_again), tokens(crowding.n_ctx)
    if crowding.needed_again < crowding.n_ctx:
        note = f"{takes} of {holds} tokens to send then: it fits"
    else:
        note = f"does not fit: {takes} tokens to send then, and the context holds {holds}"
    if not gone.before:
        return [_option("again", "Send all again", note)]
    title = f"Send {counted(gone.messages, 'message')} again"
    return [_option("again", title, f"{note}; {gone.rest}")]


def _option(name: str, title: str, note: str, *, disabled: bool = False) -> Option:
    text = Content("\n").join([Content(title), Content(f"  {note}").stylize("$foreground 60%")])
    return Option(text, id=name, disabled=disabled)
