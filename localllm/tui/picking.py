"""The rows of the list of models, those here and in the catalogue that match, then what the hub has; and their keys.

Turns values into rows; knows nothing of widgets, nor of who searches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.errors import LocalLLMError
from localllm.tui.amounts import tokens
from localllm.tui.models import Choice

if TYPE_CHECKING:
    from localllm.library.offers import Offer
    from localllm.library.search import Hit

LABEL = 12
"""Columns for the quantization of a model of the hub."""

LONGEST_LABEL = 32

HERE = "Enter loads it"
ABSENT = "Enter downloads it, beside the chat"
CONVERTED = "Enter downloads and converts it"
UNDER_WAY = "Ctrl+X stops it; what has arrived is kept"
SEARCHES = "Enter searches the hub"
HUB = "F3 searches the hub"
NEXT = "Tab next repo"
BACK = "Esc back"


@dataclass(frozen=True)
class Row:
    """A line, and a second one with a `note` below it. `key` is the same as long as the row means the same.

    Enter takes the `choice`, or `searches` the hub; a row with neither only tells, as a `heading` or not. `of_hub` are
    those that a search found.
    """

    key: str
    title: str
    note: str = ""
    choice: Choice | None = None
    searches: bool = False
    heading: bool = False
    of_hub: bool = False

    @property
    def only_tells(self) -> bool:
        """Whether there is nothing to choose."""
        return self.choice is None and not self.searches


@dataclass
class Search:
    """A search of the hub by `words`, as far as it is: `hits` is None until it answers, or with an `error`."""

    words: str
    hits: Sequence[Hit] | None = None
    offers: dict[str, Sequence[Offer] | LocalLLMError] = field(default_factory=dict)
    error: LocalLLMError | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the hub has not answered yet."""
        return self.hits is None and self.error is None


@dataclass(frozen=True)
class View:
    """What decides the rows beside what there is: the path of the model that is `open`, and the `room` in bytes.

    Of downloads, by name: where one is that has `arrived` whole, and how many bytes are `kept` of one that was stopped;
    `moving` is the name of one that is under way, and `progress` what to say of it.
    """

    open: str
    room: int | None
    arrived: Mapping[str, Path]
    kept: Mapping[str, int]
    moving: str = ""
    progress: str = ""

    def told(self, name: str) -> str:
        """What to say of a model while it is on its way; nothing of the others."""
        return self.progress if name == self.moving else ""


def asked(choice: Choice) -> str:
    """What to ask before a model that is not here is downloaded."""
    how = f", {choice.note(None)}" if choice.bytes else ""
    return f"Enter once more downloads {choice.name}{how}."


def rows(choices: Sequence[Choice], words: str, search: Search | None, view: View) -> list[Row]:
    """The rows that match `words`. A search by other words is not shown."""
    found = [_local(choice, view) for choice in choices if choice.matches(words)]
    if search is not None and search.words == words and search.error is None:
        found += [replace(row, of_hub=True) for row in _of_search(search, view)]
    elif words:
        found.append(Row("search", f"→ search the hub for '{words}'", searches=True))
    if view.moving and all(row.choice is None or row.choice.name != view.moving for row in found):
        # Whatever is looked for: it may be stopped here.
        found.insert(0, _local(Choice(view.moving, None, 0, "", 0), view))
    return found


def hint(row: Row | None, words: str, search: Search | None, moving: str) -> str:
    """What keys do now: on the row that is chosen, and in the list. `moving` is the name of a download under way."""
    hints = []
    if row is not None and row.choice is not None:
        hints.append(_deed(row.choice, moving))
    searches = row is not None and row.searches
    if searches:
        hints.append(SEARCHES)
    if search is not None and search.hits:
        hints.append(NEXT)
    elif words and not searches and (search is None or not search.is_waiting):
        hints.append(HUB)
    return " · ".join([*hints, BACK])


def _deed(choice: Choice, moving: str) -> str:
    if choice.name == moving:
        return UNDER_WAY
    if choice.path is not None:
        return HERE
    return CONVERTED if choice.source else ABSENT


def _local(choice: Choice, view: View) -> Row:
    choice = replace(choice, arrived=view.kept.get(choice.name, 0))
    is_open = choice.path is not None and str(choice.path) == view.open
    mark = "●" if is_open else "↓" if choice.path is None else " "
    note = view.told(choice.name) or choice.note(view.room)
    return Row(f"here {choice.name}", f"{mark} {choice.name}", f"  {note}", None if choice.problem else choice)


def _of_search(search: Search, view: View) -> Iterator[Row]:
    if search.hits is None:
        yield Row("searching", f"  searching the hub for '{search.words}'… Esc stops")
        return
    if not search.hits:
        yield Row("nothing", f"  the hub has no model for '{search.words}' that can be pulled: try fewer words")
        return
    yield Row("hub", f"  On the hub: {len(search.hits)} repos with '{search.words}', the most downloaded first")
    for hit in search.hits:
        yield Row(f"repo {hit.repo}", f"  {hit.repo}", f"  {_about(hit)}", heading=True)
        offers = search.offers.get(hit.repo)
        if offers is None:
            kinds = ", ".join(hit.quantizations)
            yield Row(f"asking {hit.repo}", f"    {kinds}{' · ' if kinds else ''}asking for sizes…")
        elif isinstance(offers, LocalLLMError):
            yield Row(f"refused {hit.repo}", f"    {offers.message}", f"    {' '.join(offers.hint.split())}".rstrip())
        else:
            yield from (_offered(offer, view) for offer in offers)


def _about(hit: Hit) -> str:
    parts = [f"{tokens(hit.downloads)} downloads", hit.licence or "licence unknown"]
    parts += ["gated: ask for access on its page"] if hit.gated else []
    parts += ["a checkpoint, no GGUF"] if hit.kind == "checkpoint" else []
    return " · ".join(parts)


def _offered(offer: Offer, view: View) -> Row:
    path = view.arrived.get(offer.name, offer.path)
    kept = view.kept.get(offer.name, offer.arrived)
    choice = Choice(offer.name, path, offer.bytes, offer.label, offer.needed, arrived=kept, source=offer.source)
    mark = "↓" if path is None else "●" if str(path) == view.open else " "
    note = view.told(offer.name) or choice.short_note(view.room)
    here = " · here" if path is not None else ""
    other = f"      in another type: localllm pull {offer.name} --type …" if offer.source and path is None else ""
    return Row(f"hub {offer.name}", f"  {mark} {_shortened(offer.label):{LABEL}} {note}{here}", other, choice)


def _shortened(label: str) -> str:
    """The path of a file with its middle left out, where it is long: what tells files apart is mostly at the end."""
    if len(label) <= LONGEST_LABEL:
        return label
    return f"{label[: LONGEST_LABEL // 3]}…{label[-(2 * LONGEST_LABEL // 3) :]}"
