"""Files in messages: read, refused with words, written into a message and found in it again."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from localllm.chat import attachments
from localllm.chat.attachments import (
    Attachment,
    dropped,
    is_long,
    joined,
    mentioned,
    pasted,
    read_mentioned,
    split,
    summary,
)
from localllm.errors import BadAttachment


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_below_the_current_folder_keeps_its_path_and_another_only_its_name(here: Path) -> None:
    (here / "docs").mkdir()
    (here / "docs" / "a.md").write_text("one\r\ntwo\n")
    assert attachments.read(Path("docs/a.md")) == Attachment("docs/a.md", "one\ntwo\n")
    assert attachments.read(here / "docs" / "a.md").name == "docs/a.md"
    other = here / "elsewhere"
    other.mkdir()
    os.chdir(other)
    assert attachments.read(here / "docs" / "a.md").name == "a.md"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("größe 東京".encode("utf-16"), "größe 東京"),
        (b"", ""),
    ],
)
def test_usual_encodings_are_read(here: Path, data: bytes, text: str) -> None:
    (here / "f.txt").write_bytes(data)
    assert attachments.read(here / "f.txt").text == text


def test_what_may_be_text_of_an_older_program_comes_with_the_command_that_makes_it_utf8(here: Path) -> None:
    old = here / "un café.txt"
    old.write_bytes("Un café, s'il vous plaît.\n".encode("cp1252"))
    with pytest.raises(BadAttachment, match="not UTF-8 at byte 6") as caught:
        attachments.read(old)
    command = caught.value.hint.partition("program. ")[2].partition("  makes")[0]
    subprocess.run(command, shell=True, check=True)
    assert attachments.read(here / "un café.utf8.txt").text == "Un café, s'il vous plaît.\n"
    old.write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    with pytest.raises(BadAttachment) as caught:
        attachments.read(old)
    assert "iconv" not in caught.value.hint


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.write_bytes(b"GGUF\x03\x00\x00\x00"), "is not a text file: it holds zero bytes"),
        (lambda path: path.write_bytes(b"abc\xff\xfe"), "is not a text file: it is not UTF-8 at byte 3"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: os.mkfifo(path), "is no file that can be read to its end"),
        (lambda path: None, "There is no file"),
        (lambda path: path.write_bytes(b"a" * (attachments.MAX_BYTES + 1)), "is too large to attach: 2.0 MiB"),
    ],
)
def test_what_cannot_be_attached_is_refused_with_words(here: Path, make: object, why: str) -> None:
    path = here / "it"
    assert callable(make)
    make(path)
    with pytest.raises(BadAttachment, match=why):
        attachments.read(path)


@pytest.mark.parametrize(
    "text",
    ["", "one", "two\n", "a\n\nb\n\n\nc", "```py\ncode\n```", "`````\n```", "Attached file: x\n\n```\ny\n```\n\nz"],
)
def test_what_was_joined_is_split_again(text: str) -> None:
    files = [Attachment("a b.md", text), Attachment("no_suffix", "second")]
    for said in ("A question\n\nof two parts?", ""):
        found, rest = split(joined(files, said))
        assert [file.name for file in found] == ["a b.md", "no_suffix"]
        assert [file.text for file in found] == [text.removesuffix("\n"), "second"]
        assert rest == said


def test_a_message_without_files_is_only_what_was_said() -> None:
    assert joined([], "Hello") == "Hello"
    assert split("Hello\n```\nx\n```") == ([], "Hello\n```\nx\n```")
    assert split("Attached file: never closed\n\n```\nx") == ([], "Attached file: never closed\n\n```\nx")


def test_a_summary_is_what_was_said_or_the_names() -> None:
    files = [Attachment("a.md", "text"), Attachment("b.md", "text")]
    assert summary(joined(files, "Compare them.")) == "Compare them."
    assert summary(joined(files, "")) == "a.md, b.md"
    assert summary("Hello") == "Hello"


def test_mentions_are_files_that_there_are(here: Path) -> None:
    for name in ("a.md", "b c.md", "d.py"):
        (here / name).write_text("x")
    text = 'Compare @a.md, @"b c.md" and (@no) me@d.py with @d.py. Again @a.md @/'
    assert mentioned(text) == [Path("a.md"), Path("b c.md"), Path("d.py")]
    assert mentioned("nobody@example.org or @someone") == []
    assert mentioned("@" + "x" * 5000) == []
    assert mentioned("approx. @~nobody-of-this-name and @~nobody-of-this-name/a.md") == []


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("@/tmp/nothere.txt", "/tmp/nothere.txt"),
        ("@./nothere", "nothere"),
        ("@../nothere.", "../nothere"),
        ("@~/nothere", "nothere"),
        ("@src/nothere", "src/nothere"),
        ("@nothere.py,", "nothere.py"),
        ('@"not here.txt"', "not here.txt"),
    ],
)
def test_a_path_to_nothing_is_refused(here: Path, word: str, named: str) -> None:
    (here / "src").mkdir()
    with pytest.raises(BadAttachment, match=rf"There is no file .*{re.escape(named)}\.\n") as caught:
        read_mentioned(f"What is in {word} ?")
    assert "space after the @" in caught.value.hint


def test_a_folder_after_at_is_refused(here: Path) -> None:
    (here / "src").mkdir()
    with pytest.raises(BadAttachment, match="src is a folder"):
        read_mentioned("What is in @src/ ?")


@pytest.mark.parametrize(
    "text",
    [
        "@someone @me@here.rs",
        "npm i @types/node",
        "@app.get('/items')\ndef items():",
        "@dataclasses.dataclass",
        "nobody@nowhere.py",
        "@ /tmp/nothere.txt",
        "@/ @~ @. @..",
        "@" + "x" * 5000 + "/x",
    ],
)
def test_other_words_after_at_are_words(here: Path, text: str) -> None:
    (here / "a.md").write_text("x")
    assert read_mentioned(text) == []
    assert read_mentioned(f"@a.md {text}") == [Attachment("a.md", "x")]


def test_the_home_of_a_user_who_is_not_there_is_a_file_that_is_not_there() -> None:
    with pytest.raises(BadAttachment, match="There is no file ~nobody-of-this-name"):
        attachments.read(Path("~nobody-of-this-name/a.md"))


def test_dragged_files_are_found_in_every_terminal_s_way_of_pasting(here: Path) -> None:
    for name in ("a.md", "b c.md"):
        (here / name).write_text("x")
    plain, spaced = here / "a.md", here / "b c.md"
    assert dropped(f"{plain}\n") == [plain]
    assert dropped(f"{spaced}") == [spaced]
    assert dropped(f"'{spaced}' ") == [spaced]
    assert dropped(f"{plain} {here}/b\\ c.md") == [plain, spaced]
    assert dropped(f"file://{here}/b%20c.md") == [spaced]


@pytest.mark.parametrize(
    "paste", ["", "/help", "/usr/bin/nothing-there", "a.md", "/ 'unbalanced", "/" * 50_000, "/tmp"]
)
def test_any_other_paste_is_text(here: Path, paste: str) -> None:
    (here / "a.md").write_text("x")
    assert dropped(paste) == []


def test_a_long_paste_goes_along_under_a_name_of_its_own() -> None:
    assert not is_long("a\n" * 999)
    assert is_long("a\n" * 1000)
    assert is_long("a" * 100_001)
    assert pasted("text", []).name == "paste 1"
    assert pasted("text", ["paste 1", "notes.md"]) == Attachment("paste 2", "text")
