"""`localllm chats`: lists, shows, searches, exports, imports, deletes; `--json` everywhere."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from localllm import paths
from localllm.chat import database
from localllm.chat.conversation import Conversation
from localllm.chat.store import UNDO_DAYS, Store
from localllm.cli.main import main
from tests.chat.talking import talk


@pytest.fixture
def store() -> Iterator[Store]:
    opened = Store.open(paths.chats_file())
    yield opened
    opened.close()


@pytest.fixture
def chats(store: Store) -> tuple[Conversation, Conversation]:
    first = talk(store, "Recipes with rhubarb", "Crumble.")
    store.add(first, first.add_version(first.path()[-1].id, "A fool."))
    return first, talk(store, "A lighthouse", "It stands on a rock.")


class Ran:
    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> None:
        assert main(["chats", *arguments]) == code
        self.out, self.err = capsys.readouterr()

    @property
    def document(self) -> Any:
        return json.loads(self.out.splitlines()[-1])


def test_the_list(capsys: pytest.CaptureFixture[str], chats: tuple[Conversation, Conversation]) -> None:
    lines = Ran(capsys, "list").out.splitlines()
    assert [line.split("  ")[-1] for line in lines] == ["A lighthouse", "Recipes with rhubarb"]
    assert lines[1].startswith(chats[0].id[:8])
    found = Ran(capsys, "list", "--json").document["chats"]
    assert [(chat["title"], chat["messages"], chat["pinned"]) for chat in found] == [
        ("A lighthouse", 2, False),
        ("Recipes with rhubarb", 3, False),
    ]


def test_an_empty_list_says_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no chats yet" in Ran(capsys, "list").out
    assert Ran(capsys, "list", "--json").document == {"chats": []}


def test_searching(capsys: pytest.CaptureFixture[str], chats: tuple[Conversation, Conversation]) -> None:
    ran = Ran(capsys, "search", "stands on", "ROCK")
    assert "A lighthouse" in ran.out
    assert "It stands on a rock." in ran.out
    assert "Recipes" not in ran.out
    (found,) = Ran(capsys, "search", "--json", "rock").document["chats"]
    assert (found["id"], found["excerpt"]) == (chats[1].id, "…on a rock.")
    assert "No chat holds" in Ran(capsys, "search", "nothing").out


def test_a_hit_in_a_chat_that_another_app_made_meanwhile_is_left_out(
    capsys: pytest.CaptureFixture[str], chats: tuple[Conversation, Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Store.chats
    monkeypatch.setattr(Store, "chats", lambda store: [chat for chat in listed(store) if chat.id != chats[1].id])
    assert "No chat holds" in Ran(capsys, "search", "rock").out
    assert Ran(capsys, "search", "--json", "rock").document == {"chats": []}


def test_a_chat_of_a_time_that_no_calendar_says_is_listed(capsys: pytest.CaptureFixture[str], store: Store) -> None:
    chat = Conversation()
    chat.add_user("From the end of time")
    store.add_whole(chat, updated=1e299)
    assert "9999-12-3" in Ran(capsys, "list").out


def test_showing_a_chat_and_its_branches(
    capsys: pytest.CaptureFixture[str], chats: tuple[Conversation, Conversation]
) -> None:
    ran = Ran(capsys, "show", "recipes")
    assert "You:\nRecipes with rhubarb\n" in ran.out
    assert "Reply (2 of 2):\nA fool.\n" in ran.out
    assert "Crumble." not in ran.out
    ran = Ran(capsys, "show", "recipes", "--branches")
    assert "> You: Recipes with rhubarb" in ran.out
    assert "  - m (1 of 2): Crumble." in ran.out
    assert "  > Reply (2 of 2): A fool." in ran.out
    document = Ran(capsys, "show", "recipes", "--json").document
    assert [message["text"] for message in document["messages"]] == ["Recipes with rhubarb", "Crumble.", "A fool."]


def test_a_name_that_is_wrong_lists_the_nearest(
    capsys: pytest.CaptureFixture[str], chats: tuple[Conversation, Conversation]
) -> None:
    ran = Ran(capsys, "show", "A lighthose", code=1)
    assert "There is no chat" in ran.err
    assert "A lighthouse" in ran.err
    assert ran.out == ""


def test_exporting_and_importing_everything(
    capsys: pytest.CaptureFixture[str], chats: tuple[Conversation, Conversation], store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "all.json"
    assert "2 chats, 5 messages" in Ran(capsys, "export", "--all", "--outfile", str(file)).out
    assert "there already" in Ran(capsys, "import", str(file)).out
    snapshot = paths.snapshots_dir() / "1.kv"
    snapshot.parent.mkdir(parents=True)
    snapshot.write_bytes(b"what was said")
    Ran(capsys, "rm", "--now", chats[0].id, chats[1].id)
    assert not snapshot.exists(), "it holds text of chats"
    assert store.chats() == []
    found = Ran(capsys, "import", str(file), "--json").document["chats"]
    assert [chat["is_new"] for chat in found] == [True, True]
    assert store.load(chats[0].id) == chats[0]
    assert "exists already" in Ran(capsys, "export", "--all", "--outfile", str(file), code=1).err


def test_chats_come_through_a_pipe(store: Store) -> None:
    chat = talk(store, "Through a pipe", "It came.")
    command = [sys.executable, "-m", "localllm", "chats"]
    exported = subprocess.run([*command, "export", chat.id, "--format", "json"], capture_output=True, check=True).stdout
    store.erase(chat.id)
    subprocess.run([*command, "import", "/dev/stdin"], input=exported, capture_output=True, check=True)
    assert store.load(chat.id) == chat


def test_nothing_is_lost_where_a_terminal_shows_less(store: Store) -> None:
    talk(store, "東京 – Grüße", "“Ja”")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}

    def ran(*arguments: str) -> str:
        command = [sys.executable, "-m", "localllm", "chats", *arguments]
        return subprocess.run(command, capture_output=True, env=environment, check=True).stdout.decode("utf-8")

    assert json.loads(ran("list", "--json"))["chats"][0]["title"] == "東京 – Grüße"
    for form in ("json", "markdown"):
        exported = ran("export", "東京", "--format", form)
        assert "東京 – Grüße" in exported
        assert "“Ja”" in exported


def test_what_is_deleted_for_long_is_gone_with_the_snapshots_of_that_time(
    capsys: pytest.CaptureFixture[str], chats: tuple[Conversation, Conversation], store: Store
) -> None:
    long_ago = time.time() - (UNDO_DAYS + 1) * 86400
    store.delete(chats[0].id)
    with store._database.transaction() as db:
        db.execute("UPDATE chat SET deleted = ? WHERE deleted NOT NULL", (long_ago,))
    folder = paths.snapshots_dir()
    folder.mkdir(parents=True)
    for name in ("old.kv", "old.part", "new.kv"):
        (folder / name).write_bytes(b"what was said")
        if name.startswith("old"):
            os.utime(folder / name, (long_ago, long_ago))
    assert Ran(capsys, "list", "--deleted", "--json").document == {"chats": []}
    assert [file.name for file in folder.iterdir()] == ["new.kv"]


def test_erasing_says_when_another_program_keeps_the_text(
    capsys: pytest.CaptureFixture[str], chats: tuple[Conversation, Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE_S", 0.05)
    with closing(sqlite3.connect(paths.chats_file(), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM chat").fetchall()
        ran = Ran(capsys, "rm", "--now", chats[0].id, code=1)
        assert "still holds what was erased" in ran.err
        assert "rm --now" in ran.err
        reader.execute("COMMIT")
    assert Ran(capsys, "rm", "--now", "--json").document == {"chats": [], "erased": True}
    assert b"Crumble" not in b"".join(file.read_bytes() for file in paths.chats_file().parent.glob("chats.*"))


def test_deleting_nothing_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["chats", "rm"])
    assert "name the chats" in capsys.readouterr().err


def test_exporting_markdown_tells_what_it_does_not_hold(
    capsys: pytest.CaptureFixture[str], chats: tuple[Conversation, Conversation], tmp_path: Path
) -> None:
    ran = Ran(capsys, "export", "recipes")
    assert ran.out.startswith("# Recipes with rhubarb\n")
    assert "A fool." in ran.out
    assert "1 message of other branches" in ran.err
    ran = Ran(capsys, "export", "recipes", "--json", "--outfile", str(tmp_path / "a.md"))
    assert ran.document["lost_messages"] == 1
    assert (tmp_path / "a.md").read_text().startswith("# Recipes")
    ran = Ran(capsys, "export", "recipes", "--outfile", str(tmp_path / "b.md"))
    held = (tmp_path / "b.md").read_text().count("\n## ")
    assert f"b.md: 1 chat, {held} message" in ran.out
    ran = Ran(capsys, "export", "recipes", "--outfile", str(tmp_path / "c.json"))
    assert f"c.json: 1 chat, {held + 1} messages" in ran.out


def test_a_file_that_is_named_like_a_chat_is_told_how_to_be_written(
    capsys: pytest.CaptureFixture[str], chats: tuple[Conversation, Conversation], tmp_path: Path
) -> None:
    file = str(tmp_path / "talk.json")
    told = Ran(capsys, "export", "recipes", file, code=1).err
    assert f"There is no chat {file!r}." in told
    assert "--outfile FILE" in told
    assert "--outfile" not in Ran(capsys, "export", "nothing", code=1).err
    assert list(tmp_path.glob("talk*")) == []


@pytest.mark.parametrize("arguments", [["export"], ["export", "--all", "x"], ["export", "x", "--json"], ["rename"], []])
def test_wrong_use(arguments: list[str], store: Store) -> None:
    talk(store, "x")
    with pytest.raises(SystemExit) as caught:
        main(["chats", *arguments])
    assert caught.value.code == 2


def test_nothing_is_imported_when_one_file_is_wrong(
    capsys: pytest.CaptureFixture[str], chats: tuple[Conversation, Conversation], store: Store, tmp_path: Path
) -> None:
    Ran(capsys, "export", "--all", "--outfile", str(tmp_path / "all.json"))
    Ran(capsys, "rm", "--now", chats[0].id)
    (tmp_path / "bad.json").write_text("{}")
    ran = Ran(capsys, "import", str(tmp_path / "all.json"), str(tmp_path / "bad.json"), code=1)
    assert "bad.json holds no chat" in ran.err
    assert len(store.chats()) == 1


def test_renaming_pinning_deleting_and_restoring(
    capsys: pytest.CaptureFixture[str], chats: tuple[Conversation, Conversation], store: Store
) -> None:
    assert Ran(capsys, "rename", "recipes", "My kitchen", "--json").document["title"] == "My kitchen"
    Ran(capsys, "pin", "kitchen")
    assert [(chat.title, chat.pinned) for chat in store.chats()] == [("My kitchen", True), ("A lighthouse", False)]
    assert " * " in Ran(capsys, "list").out.splitlines()[0]
    Ran(capsys, "pin", "kitchen", "--off")
    Ran(capsys, "rename", "kitchen")
    assert [chat.title for chat in store.chats()] == ["A lighthouse", "Recipes with rhubarb"]
    assert "restore" in Ran(capsys, "rm", "recipes").out
    assert [chat.title for chat in store.chats()] == ["A lighthouse"]
    assert "Recipes" in Ran(capsys, "list", "--deleted").out
    Ran(capsys, "restore", "recipes")
    assert len(store.chats()) == 2
