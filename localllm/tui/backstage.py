"""The threads behind the screen: the model's, the reply's, the disk's, the sampler's.

Starts and ends them together, and turns what they report into messages. Knows nothing of widgets.
"""

from __future__ import annotations

from textual.message import Message
from textual.message_pump import MessagePump

from localllm.chat.store import Store
from localllm.runtime.sampling import Sampling
from localllm.tui.archive import Archive
from localllm.tui.dialogue import Dialogue
from localllm.tui.loader import Loader, OpenModel, Wanted
from localllm.tui.messages import (
    Crashed,
    LookedAhead,
    MachineWatched,
    ModelChanged,
    ModelLost,
    ReplyBegan,
    ReplyEnded,
    ReplyGrew,
    Sampled,
)
from localllm.tui.outlook import Outlook
from localllm.tui.sampler import Sampler
from localllm.tui.titler import Titler

GOODBYE_S = 2.0
"""How long the end waits for the last words to reach the disk."""


class Backstage:
    """What works while the screen is drawn. `hearer` gets the messages, from any thread."""

    def __init__(
        self,
        open_model: OpenModel,
        wanted: Wanted,
        store: Store,
        sampling: Sampling,
        system: str,
        hearer: MessagePump,
    ) -> None:
        def tell(message: Message) -> None:
            try:
                hearer.post_message(message)
            except RuntimeError:
                # A thread may have found something out while the app ended, which has no event loop any more.
                if hearer.is_attached:
                    raise

        self._tell = tell
        self.loader = Loader(open_model, wanted, lambda: tell(ModelChanged()), self.crashed)
        self.dialogue = Dialogue(
            store,
            sampling,
            self.loader.wait,
            began=lambda turn: tell(ReplyBegan(turn)),
            ended=lambda turn: tell(ReplyEnded(turn)),
            grew=lambda turn: tell(ReplyGrew(turn)),
            crashed=self.crashed,
            system=system,
        )
        self.archive = Archive(store, tell)
        self.titler = Titler(self.archive.suggest_title, self.crashed)
        self.outlook = Outlook(lambda: self.loader.model, lambda *told: tell(LookedAhead(*told)))
        self.sampler = Sampler(
            lambda: self.loader.model,
            lambda *sample: tell(Sampled(*sample)),
            lambda machine: tell(MachineWatched(machine)),
            lambda error: tell(ModelLost(error)),
        )

    def start(self) -> None:
        """Load the model, and read what the disk has."""
        self.loader.start()
        self.archive.list()
        self.archive.find_prompts()
        self.sampler.start(self.crashed)
        self.outlook.start(self.crashed)

    def crashed(self, error: BaseException) -> None:
        """A thread met a mistake of ours."""
        self._tell(Crashed(error))

    def close(self) -> None:
        """End everything; the last words reach the disk first."""
        self.sampler.close()
        self.outlook.close()
        self.titler.stop()
        self.dialogue.close(GOODBYE_S)
        self.archive.close(GOODBYE_S)
        self.loader.close()
