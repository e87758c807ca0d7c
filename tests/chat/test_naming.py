"""What a person may call a chat."""

from __future__ import annotations

import pytest

from localllm.chat.naming import chat_named
from localllm.chat.rows import ChatEntry
from localllm.errors import BadChat

CHATS = [
    ChatEntry("3f2a" + "0" * 28, "A lighthouse keeper", 1.0, 1.0, 2),
    ChatEntry("3f2b" + "0" * 28, "A lighthouse", 1.0, 1.0, 2),
    ChatEntry("aaaa" + "0" * 28, "Rhubarb recipes", 1.0, 1.0, 2),
    ChatEntry("bbbb" + "0" * 28, "日本の首都", 1.0, 1.0, 2),
]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("3f2a", "A lighthouse keeper"),
        ("3F2B" + "0" * 28, "A lighthouse"),
        ("a lighthouse", "A lighthouse"),
        ("rhubarb", "Rhubarb recipes"),
        ("RECIPES", "Rhubarb recipes"),
        ("  A   lighthouse keeper ", "A lighthouse keeper"),
        ("首都", "日本の首都"),
    ],
)
def test_a_chat_is_named_by_the_beginning_of_its_id_or_by_its_title(name: str, title: str) -> None:
    assert chat_named(name, CHATS).title == title


def test_what_names_several_lists_them() -> None:
    with pytest.raises(BadChat, match="2 chats are called '3f2'") as caught:
        chat_named("3f2", CHATS)
    assert "3f2a0000  A lighthouse keeper" in caught.value.hint
    with pytest.raises(BadChat, match="3 chats") as caught:
        chat_named("a", [chat for chat in CHATS if chat.title[0] in "AR"] and CHATS)
    assert "names one of them" in caught.value.hint


def test_what_names_none_lists_the_nearest() -> None:
    with pytest.raises(BadChat, match="no chat 'rubarb recipe'") as caught:
        chat_named("rubarb recipe", CHATS)
    assert "Rhubarb recipes" in caught.value.hint
    with pytest.raises(BadChat) as caught:
        chat_named("the keeper", CHATS)
    assert "keeper" in caught.value.hint
    with pytest.raises(BadChat) as caught:
        chat_named("zzzz", CHATS)
    assert "chats list" in caught.value.hint
    with pytest.raises(BadChat, match="empty"):
        chat_named(" ", CHATS)
    with pytest.raises(BadChat) as caught:
        chat_named("zzzz", [])
    assert "no chats yet" in caught.value.hint
