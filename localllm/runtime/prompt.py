"""A conversation becomes a prompt that fits the context: rendered, tokenized, and cut by the policy of the caller."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localllm.errors import UnsupportedModel
from localllm.native.vocab import Vocab, encoded
from localllm.runtime import window
from localllm.runtime.options import Window
from localllm.runtime.template import TokenMemory, render
from localllm.runtime.tokens import shared
from localllm.runtime.types import Message

if TYPE_CHECKING:  # jinja2 takes time to import
    from localllm.chat_template import ChatTemplate

NOTHING = array("i")


@dataclass(frozen=True)
class Prompt:
    """What is evaluated. `whole` are the tokens of `text`; `tokens` are those, less what the window has no room for,
    and what was answered so far.

    `dropped_messages` of the oldest are not in `text`. `rewritten_tokens` is how much of what was computed of the
    conversation is of no use any more because the template writes it otherwise now.
    """

    text: str
    whole: array[int]
    tokens: array[int]
    dropped_messages: int = 0
    rewritten_tokens: int = 0


@dataclass(frozen=True)
class Source:
    """Where the prompts of a reply come from: the first, and the one with what was answered when the context was full,
    or None if there is no room to be made."""

    first: Callable[[], Prompt]
    more: Callable[[array[int]], Prompt | None]


class Prompter:
    """Makes the prompts of one model, whose context holds `n_ctx` tokens.

    `template` is called when a conversation is rendered; it raises `BadTemplate` if the model has none.
    """

    def __init__(self, memory: TokenMemory, template: Callable[[], ChatTemplate], n_ctx: int, policy: Window) -> None:
        self._memory, self._template, self._n_ctx, self._policy = memory, template, n_ctx, policy

    def raw(self, text: str) -> Source:
        """The prompts of a text that is continued as it stands."""
        return self._source(lambda answer: self._fitted(text, answer))

    def conversation(self, messages: Sequence[Message], max_tokens: int) -> Source:
        """The prompts of a conversation that is answered in up to `max_tokens`, 0 for no limit.

        They raise `BadTemplate`.

        Raises:
            BadText: a message is no valid UTF-8; says which, and where in it.
        """
        for number, message in enumerate(messages, 1):
            encoded(message.content, f"Message {number}, by {message.role}," if len(messages) > 1 else "The text")
        if self._policy == "drop-oldest-turns":
            return Source(
                lambda: self._newest_turns(messages, max_tokens, NOTHING),
                lambda answer: self._newest_turns(messages, max_tokens, answer),
            )

        def make(answer: array[int]) -> Prompt:
            return self._fitted(render(self._template(), messages), answer, messages)

        return self._source(make)

    def _source(self, make: Callable[[array[int]], Prompt]) -> Source:
        """What has room for more only if the oldest tokens may go."""
        return Source(lambda: make(NOTHING), lambda answer: make(answer) if self._policy == "shift" else None)

    def _fitted(self, text: str, answer: array[int], messages: Sequence[Message] = (), dropped: int = 0) -> Prompt:
        whole = array("i", self._memory.tokenize(text))
        tokens = whole + answer
        if self._policy == "shift":
            tokens = window.shifted(tokens, self._start(text, whole, messages), self._n_ctx)
        return Prompt(text, whole, tokens, dropped, self._rewritten(messages, whole))

    def _start(self, text: str, tokens: array[int], messages: Sequence[Message]) -> int:
        """How many of the `tokens` of `text` a shift keeps: up to the end of the system prompt, at least the first."""
        end = 0
        for message in window.pinned(messages):
            end = max(end, text.find(message.content, end) + len(message.content))
        return max(1, shared(array("i", self._memory.tokenize(text[:end])), tokens)) if end else 1

    def _rewritten(self, messages: Sequence[Message], tokens: array[int]) -> int:
        """How many tokens of the last answer, and what led to it, do not stand in the prompt as they were."""
        answers = [number for number, message in enumerate(messages[:-1]) if message.role == "assistant"]
        if not answers:
            return 0
        before = render(self._template(), messages[: answers[-1]])
        known = self._memory.known(before + messages[answers[-1]].content)
        return len(known) - shared(known, tokens) if known is not None else 0

    def _newest_turns(self, messages: Sequence[Message], max_tokens: int, answer: array[int]) -> Prompt:
        """The prompt of the system prompt and as many of the newest turns as have room, at least the last."""
        starts = window.turns(messages)
        reserve = min(max_tokens or self._n_ctx, self._n_ctx // 4)
        sizes = [
            (self._size(messages[start : start + 1]), self._size(messages[start + 1 : end]))
            for start, end in zip(starts, [*starts[1:], len(messages)], strict=True)
        ]
        if sizes:
            sizes[-1] = (sizes[-1][0], sizes[-1][1] + len(answer))
        fixed = window.pinned(messages)
        first = window.first_turn(sizes, self._size(fixed), self._n_ctx - reserve, self._n_ctx)
        while True:
            begin = starts[first] if first else 0
            kept = [*fixed, *messages[begin:]] if first else list(messages)
            prompt = self._fitted(render(self._template(), kept), answer, kept, len(messages) - len(kept))
            if len(prompt.tokens) < self._n_ctx or first + 1 >= len(starts):
                return prompt
            first += 1

    def _size(self, messages: Sequence[Message]) -> int:
        return sum(self._memory.count(message.content) + window.AROUND_A_MESSAGE for message in messages)


def filling(vocab: Vocab, title: str, prefix: str, suffix: str) -> str:
    """The text before, behind and at a gap, each after its token, as llama.cpp's server orders them.

    Raises:
        UnsupportedModel: the model, which goes by `title`, has no tokens for it.
    """
    tokens = vocab.fill_in_middle()
    if min(tokens.values()) < 0:
        raise UnsupportedModel(
            f"{title} was not trained to fill in the middle: its vocabulary has no tokens for it.",
            hint="Choose a model of code such as Qwen2.5-Coder or StarCoder2, or use complete().",
        )
    before, behind, at = (vocab.text(tokens[name]) for name in ("fim_pre", "fim_suf", "fim_mid"))
    return f"{before}{prefix}{behind}{suffix}{at}"
