"""The table of commands: what is one, what is a message, what is said of a wrong one."""

from __future__ import annotations

import pytest

from localllm.chat.commands import COMMANDS, about, escaped, matching, offered, parse, unescaped
from localllm.errors import BadCommand


@pytest.mark.parametrize(
    "text",
    ["hello", "a /new line", "/", "/ new", "/usr/bin/env runs it", "/* a comment */", "//new", "/1 + 1", " /new"],
)
def test_these_are_messages(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "name", "argument"),
    [
        ("/new", "new", ""),
        ("/NEW ", "new", ""),
        ("/exit", "quit", ""),
        ("/?", "help", ""),
        ("/open two words", "open", "two words"),
        ("/system", "system", ""),
        ("/system Be brief.\nAlways.", "system", "Be brief.\nAlways."),
        ("/edit\nWhy?", "edit", "Why?"),
    ],
)
def test_these_are_commands(text: str, name: str, argument: str) -> None:
    call = parse(text)
    assert call is not None
    assert (call.command.name, call.argument) == (name, argument)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("/modle qwen3", "no command /modle", "/model"),
        ("/xyzzy", "no command /xyzzy", "//xyzzy"),
        ("/new chat", "takes nothing", "//new"),
        ("/open", "/open CHAT", "go on with a chat"),
        ("/branch/undo", "no command /branch/undo", "//branch"),
    ],
)
def test_wrong_ones_say_what_would_be_right(text: str, message: str, hint: str) -> None:
    with pytest.raises(BadCommand, match=message) as caught:
        parse(text)
    assert hint in caught.value.hint


def test_two_slashes_send_one() -> None:
    assert unescaped("//new") == "/new"
    assert unescaped(escaped("/new")) == "/new"
    assert escaped("new //") == "new //"
    assert unescaped("new //") == "new //"


def test_completion_offers_what_the_beginning_may_become() -> None:
    assert [command.name for command in matching("/re")] == ["rename", "restore", "retry"]
    assert [command.name for command in matching("/exp")] == ["save"]
    assert matching("/") == offered()
    assert "compare" in [command.name for command in matching("/com")]
    assert "compare" not in [command.name for command in matching("/com", plain=True)]


def test_help_is_about_a_word() -> None:
    assert [command.name for command in about("branch")] == ["branch"]
    assert [command.name for command in about("/Regenerate")] == ["retry"]
    assert {"new", "open", "rename", "delete"} <= {command.name for command in about("chat")}
    assert about("") == offered()
    assert "compare" not in {command.name for command in about("model", plain=True)}
    with pytest.raises(BadCommand, match="No command is about 'weather'"):
        about("weather")


def test_only_what_needs_a_screen_is_not_in_plain() -> None:
    assert [command.name for command in offered() if command not in offered(plain=True)] == ["compare"]
    with pytest.raises(BadCommand, match="no command /compare"):
        parse("/compare", plain=True)


def test_no_name_is_given_twice() -> None:
    names = [name for command in COMMANDS for name in (command.name, *command.others)]
    assert len(names) == len(set(names))
