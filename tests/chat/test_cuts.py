"""What the lines keep out, and how they are taken back, last first."""

from __future__ import annotations

import pytest

from localllm.chat.conversation import Conversation
from localllm.chat.cuts import LeftOut, left_out, send_again
from localllm.errors import BadCommand


def test_lines_are_taken_back_one_by_one() -> None:
    chat = Conversation()
    for number in range(3):
        chat.extend(chat.add_reply(chat.add_user(f"question {number}").id).id, "answer")
    assert left_out(chat) is None
    second, third = chat.path()[2], chat.path()[4]
    chat.cut(third.id, "A summary.")
    assert left_out(chat) == LeftOut(third.id, 4, 0)
    chat.cut(second.id)
    assert left_out(chat) == LeftOut(third.id, 2, 2)
    assert send_again(chat) == "2 messages are sent again, from the next message on; the 2 before stay left out."
    assert left_out(chat) == LeftOut(second.id, 2, 0)
    assert send_again(chat) == "All of this chat is sent again, from the next message on."
    assert not chat.cuts
    with pytest.raises(BadCommand, match="all of it is sent"):
        send_again(chat)
