"""The chat template rendered both ways: as the checkpoint says, and from the file as the engine does it.

Compares texts and token ids on a few conversations. Knows neither where a template comes from nor how a text is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from localllm.chat_template import ChatTemplate
from localllm.convert.checkpoint import Checkpoint
from localllm.errors import BadTemplate
from localllm.native import handles
from localllm.native.vocab import Vocab

CHAT_TEMPLATE = "tokenizer.chat_template"
"""The key of the template that the engine uses."""

_SYSTEM = {"role": "system", "content": "Answer in one sentence."}
_QUESTION = {"role": "user", "content": "What is the capital of France?"}
_ANSWER = {"role": "assistant", "content": "Paris, on the Seine."}
_NEXT = {"role": "user", "content": "  And of 日本? \n\nUse `code`: <b>1 + 1</b> 🙂"}
_CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "The time in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_CALL = {"type": "function", "id": "call00001", "function": {"name": "clock", "arguments": {"city": "Paris"}}}
_CALLING = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
_TIME = {"role": "tool", "name": "clock", "tool_call_id": "call00001", "content": "12:30"}

# Templates that print the date print this one, so that midnight does not count as a difference.
_NOW = datetime(2026, 1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Conversation:
    """What is rendered, and whether an answer is to follow."""

    name: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    answer_next: bool = True


CONVERSATIONS = (
    Conversation("one question", [_QUESTION]),
    Conversation("with a system prompt", [_SYSTEM, _QUESTION]),
    Conversation("several turns", [_QUESTION, _ANSWER, _NEXT]),
    Conversation("several turns with a system prompt", [_SYSTEM, _QUESTION, _ANSWER, _NEXT]),
    Conversation("finished", [_QUESTION, _ANSWER], answer_next=False),
)
WITH_TOOLS = (
    Conversation("with a tool", [_QUESTION], [_CLOCK]),
    Conversation("with a tool's answer", [_QUESTION, _CALLING, _TIME], [_CLOCK]),
)


@dataclass(frozen=True)
class ChatSide:
    """One way from a conversation to token ids. `source` is None where there is no template.

    `first` is the id that this way puts before every text.
    """

    source: str | None
    special: Mapping[str, str]
    encode: Callable[[str], list[int]]
    first: int | None = None


@dataclass(frozen=True)
class TemplateProof:
    """How many conversations were rendered, how many of them both templates refuse, and what differs, in words."""

    conversations: int
    refused: int = 0
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether texts and token ids are the same."""
        return not self.differences


def checkpoint_side(checkpoint: Checkpoint, template: str | None, encode: Callable[[str], list[int]]) -> ChatSide:
    """As transformers does it: `encode` gives the ids of a text with nothing put around it."""
    return ChatSide(template, special_texts(checkpoint), encode)


def special_texts(checkpoint: Checkpoint) -> dict[str, str]:
    """The texts of special tokens that transformers gives a template: `bos_token`, `eos_token`…"""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        for key, token in checkpoint.object(name).items():
            content = token.get("content") if isinstance(token, dict) else token
            if key.endswith("_token") and isinstance(content, str):
                found[key] = content
    return found


@contextmanager
def engine_side(path: Path) -> Iterator[ChatSide]:
    """As the engine does it with the GGUF at `path`, of which only the vocabulary is loaded.

    Raises:
        BadModelFile, UnsupportedModel: llama.cpp does not load it.
    """
    with handles.open_model(path, vocab_only=True) as model:
        vocab = Vocab(model)
        first = vocab.bos if vocab.adds_bos else None
        yield ChatSide(model.chat_template(), vocab.template_tokens(), vocab.tokenize_prompt, first)


def compare_chats(expected: ChatSide, found: ChatSide) -> TemplateProof | None:
    """Render the conversations both ways; None where neither has a template."""
    if not expected.source and not found.source:
        return None
    if not expected.source or not found.source:
        return TemplateProof(0, differences=("only one of the two has a chat template",))
    templates = []
    for side, owner in ((expected, "the original"), (found, "the file")):
        try:
            templates.append(ChatTemplate(str(side.source), side.special, now=_NOW))
        except BadTemplate as error:
            return TemplateProof(0, differences=(f"the template of {owner}: {error.message}",))
    conversations = _conversations(expected.source)
    refused, differences, starts = 0, [], set()
    for conversation in conversations:
        (wanted, refused_there), (got, refused_here) = (_rendered(template, conversation) for template in templates)
        refused += refused_there and refused_here
        if wanted != got or refused_there != refused_here:
            differences.append(f"{conversation.name}: {_first_difference(wanted, got)}")
        elif not refused_there:
            ids, ours = expected.encode(wanted), found.encode(got)
            if ids != ours and found.first is not None and ours == [found.first, *ids]:
                starts.add(found.first)
            elif ids != ours:
                differences.append(f"{conversation.name}: token ids {_first_difference(ids, ours)}")
    notes = [f"llama.cpp begins every conversation with the token {number}, the original does not" for number in starts]
    return TemplateProof(len(conversations), refused, tuple(differences), tuple(notes))


def render_chats(template: ChatTemplate, source: str) -> tuple[int, list[str]]:
    """How many conversations a template was given, and why it refused some of them."""
    rendered = [_rendered(template, conversation) for conversation in _conversations(source)]
    return len(rendered), [text for text, refused in rendered if refused]


def _conversations(source: str) -> list[Conversation]:
    """Those that a template is tried with: tools only where it knows of any."""
    return [*CONVERSATIONS, *(WITH_TOOLS if "tools" in source else ())]


def _rendered(template: ChatTemplate, conversation: Conversation) -> tuple[str, bool]:
    """The text, or the reason of a template that refuses, and whether it does."""
    try:
        text = template.render(conversation.messages, tools=conversation.tools, answer_next=conversation.answer_next)
    except BadTemplate as error:
        return error.message, True
    return text, False


def _first_difference(expected: Sequence[Any], found: Sequence[Any]) -> str:
    """Where two texts or lists begin to differ, with a little of what comes before."""
    pairs = zip(expected, found, strict=False)
    at = next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(expected), len(found)))
    start = max(at - 8, 0)
    return f"…{expected[start : at + 16]!r} is …{found[start : at + 16]!r} in the file"
