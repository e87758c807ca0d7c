"""Writing in the app: commands with their list, files in messages, over a fake model."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from textual import events

from localllm.chat import attachments
from localllm.chat.commands import offered
from localllm.chat.store import Store
from localllm.tui.widgets.attachment_line import AttachmentLine
from localllm.tui.widgets.prompt import Prompt
from localllm.tui.widgets.suggestions import Suggestions
from localllm.tui.widgets.transcript import Transcript
from tests.tui.driving import Driver, OpenApp, ask, idle, only_chat, say, screen_text, shows, wait_until
from tests.tui.fake import Garage, Script

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "notes.md").write_text("The code word is basalt.\n" * 10)
    (here / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    return here


async def settle(pilot: Driver) -> None:
    for _ in range(5):
        await pilot.pause(0.02)


def prompt(pilot: Driver) -> Prompt:
    return pilot.app.query_one(Prompt)


async def test_a_command_never_goes_to_the_model(open_app: OpenApp, store: Store) -> None:
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(100, 40)) as pilot:
        await say(pilot, "/help")
        await shows(pilot, "answer again; the old reply is kept")
        await say(pilot, "/help stats")
        await shows(pilot, "what the last reply cost")
        await say(pilot, "/halp")
        await shows(pilot, "There is no command /halp.")
        assert "The nearest: /help" in screen_text(pilot)
        assert prompt(pilot).text == "/halp"
    assert [model.asked for model in garage.models] == [[]]
    assert store.chats() == []


async def test_every_command_that_is_listed_does_something(open_app: OpenApp) -> None:
    assert set(open_app().chat.sending.orders.deeds) == {command.name for command in offered()}


async def test_what_is_said_of_a_wrong_command_goes_with_the_next(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 40)) as pilot:
        await say(pilot, "/halp")
        await shows(pilot, "There is no command /halp.")
        await pilot.press(*"/sat", "enter")
        await shows(pilot, "There is no command /sat.")
        assert "/halp" not in screen_text(pilot)
        await pilot.press(*"/open nothing", "enter")
        await shows(pilot, "There is no chat 'nothing'")
        await ask(pilot, "Where is it?")
        await shows(pilot, "The capital of France")
        assert "There is no" not in screen_text(pilot)


async def test_branch_lists_the_versions_and_shows_one(open_app: OpenApp, store: Store) -> None:
    async with open_app().run_test(size=(100, 40)) as pilot:
        await ask(pilot, "First?")
        await ask(pilot, "/edit Second?")
        await say(pilot, "/branch")
        await shows(pilot, "2  You (2 of 2): Second?")
        await say(pilot, "/branch 1")
        await shows(pilot, "First?")
        assert "Second?" not in screen_text(pilot)
        await say(pilot, "/branch 9")
        await shows(pilot, "There is no version 9")
    (entry,) = store.chats()
    assert store.load(entry.id).path()[0].text == "First?"


async def test_the_edges_of_what_is_written_come_before_those_of_the_chat(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 40)) as pilot:
        prompt(pilot).insert("one\ntwo")
        await pilot.press("ctrl+home", "a")
        assert prompt(pilot).text == "aone\ntwo"
        await pilot.press("ctrl+end", "z")
        assert prompt(pilot).text == "aone\ntwoz"


async def test_the_key_that_the_line_below_names_shows_the_reply_also_to_who_writes(open_app: OpenApp) -> None:
    async with open_app(Script("word\n\n" * 400, piece_s=0.02)).run_test(size=(100, 24)) as pilot:
        await say(pilot, "Go")
        await wait_until(pilot, lambda: pilot.app.query_one(Transcript).max_scroll_y > 9, "more than fits")
        prompt(pilot).insert("more")
        await pilot.press("ctrl+home", "pageup")
        await shows(pilot, "↓ more below, Ctrl+End")
        await pilot.press("ctrl+end")
        assert prompt(pilot).cursor_location == (0, 4)
        assert "more below" in screen_text(pilot)
        await pilot.press("ctrl+end")
        await wait_until(pilot, lambda: "more below" not in screen_text(pilot), "the end of the reply to be seen")
        assert pilot.app.query_one(Transcript).following
        await pilot.press("ctrl+home", "ctrl+home")
        assert pilot.app.query_one(Transcript).scroll_offset.y == 0
        assert prompt(pilot).text == "more"


@pytest.mark.parametrize(
    "command",
    ["/continue", "/retry", "/undo", "/edit", "/fork", "/copy", "/stats", "/rename", "/pin", "/restore", "/branch"],
)
async def test_a_command_that_cannot_be_done_in_an_empty_chat_says_so(open_app: OpenApp, command: str) -> None:
    async with open_app().run_test(size=(100, 40), notifications=True) as pilot:
        await say(pilot, command)
        await settle(pilot)
        assert pilot.app.is_running
        assert any(word in screen_text(pilot).lower() for word in ("no ", "nothing"))


async def test_two_slashes_send_one(open_app: OpenApp, store: Store) -> None:
    async with open_app().run_test(size=(100, 40)) as pilot:
        await ask(pilot, "//help is a word for me@example.org")
        await ask(pilot, "/etc/hosts")
    (entry,) = store.chats()
    questions = [node.text for node in store.load(entry.id).path() if node.role == "user"]
    assert questions == ["/help is a word for me@example.org", "/etc/hosts"]


async def test_the_list_of_commands_narrows_completes_and_goes(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 40)) as pilot:
        suggestions = pilot.app.query_one(Suggestions)
        await pilot.press("/")
        await shows(pilot, "/new")
        await pilot.press("s", "t")
        await wait_until(pilot, lambda: suggestions.option_count == 1)
        await pilot.press("tab")
        assert prompt(pilot).text == "/stats"
        await pilot.press("ctrl+u", "/", "a", "t", "enter")
        assert prompt(pilot).text == "/attach "
        await shows(pilot, "notes.md")
        await pilot.press("ctrl+u", "/", "r")
        await wait_until(pilot, lambda: suggestions.display)
        await pilot.press("escape")
        await wait_until(pilot, lambda: not suggestions.display)
        assert prompt(pilot).text == "/r"
        await pilot.press("e")
        await wait_until(pilot, lambda: suggestions.display)
        await pilot.press("ctrl+u")
        await wait_until(pilot, lambda: not suggestions.display)


async def test_what_a_command_means_is_whole_where_the_list_is_narrow(open_app: OpenApp) -> None:
    (one,) = [command for command in offered() if command.name == "set"]
    async with open_app().run_test(size=(100, 32)) as pilot:
        await pilot.press(*"/set")
        await wait_until(pilot, lambda: pilot.app.query_one(Suggestions).display)
        await shows(pilot, "/set [NAME [VALUE]]")
        rows = screen_text(pilot).splitlines()
        begin = next(at for at, row in enumerate(rows) if "/set [NAME [VALUE]]" in row)
        column = rows[begin].index(one.meaning.split()[0])
        read = " ".join(row[column : column + 44].strip() for row in rows[begin : begin + 4])
        assert one.meaning in " ".join(read.split())


async def test_enter_runs_the_command_that_is_picked(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 40)) as pilot:
        await ask(pilot, "Capital?")
        await pilot.press("/", "s", "t", "a", "enter")
        await shows(pilot, "What the last reply cost")
        assert "34.1 tok/s" in screen_text(pilot)
        await pilot.press("/")
        await wait_until(pilot, lambda: pilot.app.query_one(Suggestions).display)
        await pilot.press("up", "enter")
        await wait_until(pilot, lambda: not pilot.app.is_running, "/quit, the last of the list")


async def test_a_command_found_in_the_history_does_not_hold_the_arrow_keys(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 40)) as pilot:
        await ask(pilot, "First")
        await say(pilot, "/stats")
        await pilot.press("up")
        assert prompt(pilot).text == "/stats"
        await pilot.press("up")
        assert prompt(pilot).text == "First"


async def test_an_attached_file_is_weighed_then_sent_before_the_words(open_app: OpenApp, store: Store) -> None:
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(100, 40)) as pilot:
        await shows(pilot, "fake-1b")
        await say(pilot, "/attach notes.md")
        await shows(pilot, "notes.md  63 tokens")
        await ask(pilot, "What is the code word?")
        assert not pilot.app.query_one(AttachmentLine).display
        sent = garage.models[0].asked[0][-1].content
        assert sent.startswith("Attached file: notes.md\n\n```md\nThe code word is basalt.")
        assert sent.endswith("```\n\nWhat is the code word?")
        await pilot.press("up")
        assert prompt(pilot).text == "What is the code word?"
    assert store.chats()[0].title == "What is the code word?"


async def test_what_a_message_will_cost_counts_its_files(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 40)) as pilot:
        await shows(pilot, "fake-1b")
        prompt(pilot).insert("What is the code word?")
        await shows(pilot, "evaluate 9")
        prompt(pilot).text = ""
        await say(pilot, "/attach notes.md")
        await shows(pilot, "notes.md  63 tokens")
        prompt(pilot).insert("What is the code word?")
        await shows(pilot, "evaluate 81")
        await pilot.press("home", "backspace")
        await shows(pilot, "evaluate 9")
        await pilot.press("end", *" @notes.md")
        await shows(pilot, "named in the text")
        await shows(pilot, "evaluate 83")


async def test_a_file_that_comes_to_a_draft_is_counted_at_once(open_app: OpenApp, folder: Path) -> None:
    async with open_app().run_test(size=(100, 40)) as pilot:
        await shows(pilot, "fake-1b")
        prompt(pilot).insert("What is the code word?")
        await shows(pilot, "evaluate 9")
        pilot.app.post_message(events.Paste(str(folder / "notes.md")))
        await shows(pilot, "evaluate 81")


async def test_what_cannot_be_attached_is_said_and_nothing_is_lost(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 40)) as pilot:
        await say(pilot, "/attach picture.png")
        await shows(pilot, "picture.png is not a text file")
        await say(pilot, "/attach notes.md")
        await shows(pilot, "notes.md")
        await say(pilot, "See @picture.png")
        await wait_until(pilot, lambda: prompt(pilot).text == "See @picture.png")
        assert [file.attachment.name for file in pilot.app.query_one(AttachmentLine).files] == ["notes.md"]
        await pilot.press("home", "backspace")
        await wait_until(pilot, lambda: not pilot.app.query_one(AttachmentLine).files)


async def test_a_path_to_nothing_is_said_and_nothing_is_sent(open_app: OpenApp) -> None:
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(100, 40)) as pilot:
        await say(pilot, "What is in @./nothere.txt ?")
        await shows(pilot, "There is no file nothere.txt.")
        await wait_until(pilot, lambda: prompt(pilot).text == "What is in @./nothere.txt ?")
    assert garage.models[0].asked == []


async def test_replies_end_at_the_limit_of_tokens(open_app: OpenApp, store: Store) -> None:
    async with open_app(max_tokens=3).run_test(size=(100, 40)) as pilot:
        await ask(pilot, "Where is it?")
        await shows(pilot, "cut at the limit of tokens")
    (entry,) = store.chats()
    assert store.load(entry.id).path()[-1].text == "The capital "


async def test_a_path_after_at_is_completed_weighed_and_read(open_app: OpenApp) -> None:
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(100, 40)) as pilot:
        await shows(pilot, "fake-1b")
        await pilot.press(*"sum @no")
        await wait_until(pilot, lambda: pilot.app.query_one(Suggestions).display)
        await pilot.press("tab")
        assert prompt(pilot).text == "sum @notes.md "
        await shows(pilot, "63 tokens · named in the text")
        await pilot.press("enter")
        await wait_until(pilot, lambda: garage.models[0].asked and idle(pilot))
        assert garage.models[0].asked[0][-1].content.endswith("```\n\nsum @notes.md ")


async def test_a_file_larger_than_the_context_is_refused(open_app: OpenApp, folder: Path) -> None:
    (folder / "long.txt").write_text("word " * 20_000)
    async with open_app().run_test(size=(100, 40)) as pilot:
        await shows(pilot, "fake-1b")
        await say(pilot, "/attach long.txt")
        await shows(pilot, "long.txt does not fit: 25,001 tokens")


async def test_a_file_that_is_dragged_in_is_attached(open_app: OpenApp, folder: Path) -> None:
    async with open_app().run_test(size=(100, 40)) as pilot:
        pilot.app.post_message(events.Paste(f"'{folder / 'notes.md'}' "))
        await shows(pilot, "notes.md  ")
        assert prompt(pilot).text == ""
        await pilot.click(AttachmentLine, offset=(4, 0))
        await wait_until(pilot, lambda: not pilot.app.query_one(AttachmentLine).files)


async def test_a_paste_of_thousands_of_lines_is_whole_and_goes_along(open_app: OpenApp) -> None:
    text = "\n".join(f"line {number}" for number in range(3000))
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(100, 40)) as pilot:
        await shows(pilot, "fake-1b")
        pilot.app.post_message(events.Paste(text.replace("\n", "\r")))
        pilot.app.post_message(events.Paste("short\nand typed"))
        await shows(pilot, "paste 1  7,223 tokens")
        assert prompt(pilot).text == "short\nand typed"
        await ask(pilot, "")
        sent = garage.models[0].asked[0][-1].content
        assert sent == f"Attached file: paste 1\n\n```\n{text}\n```\n\nshort\nand typed"
        assert "▸ paste 1 · 3,000 lines" in screen_text(pilot)


async def test_files_alone_can_be_sent(open_app: OpenApp, store: Store) -> None:
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(100, 40)) as pilot:
        await shows(pilot, "fake-1b")
        await say(pilot, "/attach notes.md")
        await shows(pilot, "notes.md  ")
        await ask(pilot, "")
        assert garage.models[0].asked[0][-1].content.endswith("basalt.\n```")
    assert store.chats()[0].title == "notes.md"


async def test_a_message_sent_while_its_file_is_read_waits_for_it(
    open_app: OpenApp, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(100, 40)) as pilot:
        await shows(pilot, "fake-1b")
        pilot.app.post_message(events.Paste(str(folder / "notes.md")))
        for key in ("o", "k", "enter"):
            pilot.app.post_message(events.Key(key, "\r" if key == "enter" else key))
        await wait_until(pilot, lambda: garage.models[0].asked and idle(pilot))
        assert garage.models[0].asked[0][-1].content.endswith("```\n\nok")
        may_read, read = threading.Event(), attachments.read
        monkeypatch.setattr(attachments, "read", lambda path: may_read.wait(10) and read(path))
        await say(pilot, "/attach nowhere.md")
        await say(pilot, "words")
        assert prompt(pilot).text == ""
        may_read.set()
        await shows(pilot, "There is no file nowhere.md.")
        assert prompt(pilot).text == "words"
        assert len(garage.models[0].asked) == 1


async def test_what_the_app_says_goes_with_the_next_message_or_with_esc(open_app: OpenApp, store: Store) -> None:
    async with open_app().run_test(size=(100, 40)) as pilot:
        await ask(pilot, "Capital?")
        await say(pilot, "/attach nowhere.md")
        await shows(pilot, "There is no file nowhere.md.")
        await shows(pilot, "esc Clear")
        await pilot.press("escape")
        await wait_until(pilot, lambda: "There is no file" not in screen_text(pilot))
        assert "esc Clear" not in screen_text(pilot)
        await say(pilot, "/attach nowhere.md")
        await shows(pilot, "There is no file nowhere.md.")
        await ask(pilot, "Sure?")
        assert "There is no file" not in screen_text(pilot)
    assert [node.text for node in only_chat(store).path()][::2] == ["Capital?", "Sure?"]
