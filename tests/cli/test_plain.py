"""`localllm chat --plain`: the same chats line by line, over a fake model, and the real one in a pipe and a pty."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from localllm import paths
from localllm.chat.attachments import split
from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from localllm.cli.main import main
from localllm.cli.plain import PlainChat
from localllm.cli.plain_lines import Lines
from localllm.errors import (
    BadAttachment,
    BadTemplate,
    BadText,
    EngineDied,
    LocalLLMError,
    ModelNotFound,
)
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import Message, StopReason
from localllm.tui.loader import Wanted
from tests.chat.talking import talk
from tests.terminal import drain, until
from tests.tui.fake import Garage, Script

PARIS = "The capital of France is **Paris**."
SLOW = Script(reply="One two three four five six seven eight nine ten. " * 40, piece_s=0.01)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "chats.sqlite3")
    yield opened
    opened.close()


@dataclass
class Run:
    """A plain chat with some input; `out` is what was said, `told` what was told beside it."""

    store: Store
    garage: Garage = field(default_factory=Garage)
    interactive: bool = False
    code: int = -1
    error: LocalLLMError | None = None
    out: str = ""
    told: str = ""
    chat: PlainChat = field(init=False)

    def __post_init__(self) -> None:
        wanted = Wanted(Path("fake-1b.gguf"))
        self.chat = PlainChat(self.garage.open, wanted, self.store, Sampling(), "", interactive=self.interactive)

    def lines(self, *lines: str) -> Run:
        source = io.StringIO("".join(f"{line}\n" for line in lines))
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as told:
            try:
                # Not a terminal, whatever the chat is told: `input` would ask pytest.
                self.code = self.chat.run(Lines(source, interactive=False))
            except LocalLLMError as error:
                self.error = error
            finally:
                self.chat.close()
        self.out, self.told = out.getvalue(), told.getvalue()
        return self

    @property
    def asked(self) -> list[list[Message]]:
        return self.garage.models[-1].asked

    @property
    def conversation(self) -> Conversation:
        return self.chat.conversation


def test_the_most_tokens_of_a_reply_are_set_for_a_chat(store: Store) -> None:
    run = Run(store).lines("/set max-tokens 2", "Capital of France?")
    assert run.told.startswith("max_tokens = 2")
    reply = run.conversation.path()[-1]
    assert reply.stats is not None
    assert (reply.stats.stop_reason, reply.stats.completion_tokens) == ("length", 2)


def test_messages_that_hold_a_text_are_listed_with_what_they_say(store: Store) -> None:
    run = Run(store).lines("A long way down there is  Basalt below.", "/find is BASALT", "/find granite")
    assert "1  You: …down there is Basalt below.\nNo message of this chat holds this. /chats WORDS" in run.told


def test_each_line_is_a_message_and_the_replies_go_to_stdout(store: Store) -> None:
    run = Run(store).lines("Capital of France?", "", "   ", "y")
    assert run.out == f"{PARIS}\n{PARIS}\n"
    assert run.told == ""
    assert run.code == 0
    assert [message.content for message in run.asked[1]] == ["Capital of France?", PARIS, "y"]
    (entry,) = store.chats()
    assert [(node.text, node.state) for node in store.load(entry.id).path()][-2:] == [("y", "done"), (PARIS, "done")]


HARMONY = "<|channel|>analysis<|message|>A capital is asked.<|end|><|start|>assistant<|channel|>final<|message|>Paris."


@pytest.mark.parametrize("reply", [HARMONY, "<think>\nA capital is asked.\n</think>\n\nParis."])
def test_a_thought_goes_to_stderr_and_the_answer_to_stdout(store: Store, reply: str) -> None:
    run = Run(store, garage=Garage(Script(reply=reply))).lines("Capital of France?")
    assert run.out == "Paris.\n"
    assert run.told == "(Thinking.)\nA capital is asked.\n(Answering.)\n"
    assert run.conversation.path()[-1].text == reply
    again = Run(store).lines(f"/open {run.conversation.id[:8]}")
    assert ": Paris." in again.told
    assert "A capital" not in again.told


def test_lines_between_quotes_are_one_message(store: Store) -> None:
    run = Run(store).lines('"""', "one", "", "/new is no command here", '"""', "two", '"""', "open to the end")
    assert [message.content for message in run.asked[-1] if message.role == "user"] == [
        "one\n\n/new is no command here",
        "two",
        "open to the end",
    ]


def test_commands_of_the_conversation(store: Store) -> None:
    run = Run(store).lines(
        "First?", "Second?", "/undo", "Other?", "/retry", "/edit Another?", "/branch", "/branch 1", "/quit", "never"
    )
    assert run.out.count(PARIS) == 5
    assert "Taken back: Second?" in run.told
    assert "1  You (1 of 3): Second?" in run.told
    assert "4  fake-1b: The capital" in run.told
    assert [node.text for node in run.conversation.path()] == ["First?", PARIS, "Second?", PARIS]
    assert store.load(run.conversation.id) == run.conversation
    assert len(run.conversation.nodes) == 9


def test_edit_keeps_the_files_of_the_question_and_reads_those_it_names(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("notes.md", "more.md"):
        Path(name).write_text(name)
    run = Run(store).lines("@notes.md How long?", "/edit How wide? @more.md @notes.md")
    files, said = split(run.conversation.path()[0].text)
    assert ([file.name for file in files], said) == (["notes.md", "more.md"], "How wide? @more.md @notes.md")


def test_what_a_model_without_a_chat_template_cannot_answer_is_not_kept(store: Store) -> None:
    garage = Garage(Script(has_chat_template=False))
    piped = Run(store, garage=garage).lines("Hi")
    assert "no chat template" in f"{piped.error}"
    assert "--chat-template FILE" in f"{piped.error}"
    typed = Run(store, garage=garage, interactive=True)
    typed.chat.loader.start()
    typed.chat.loader.wait(threading.Event())
    with pytest.raises(BadTemplate):
        typed.chat._take("Hi")
    typed.chat.close()
    assert store.chats() == []


def test_a_tilde_before_no_user_s_name_is_a_letter_of_a_file_s_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run(store).lines("Look at @~nobody-of-this-name", "/save ~nobody-of-this-name.md")
    assert run.error is None
    assert (tmp_path / "~nobody-of-this-name.md").exists()


def test_commands_of_chats(store: Store, tmp_path: Path) -> None:
    old = talk(store, "An old question", "An old answer.")
    run = Run(store).lines(
        "/chats",
        "/open an old",
        "More?",
        "/rename Old things",
        "/pin",
        "/fork",
        "Only in the fork",
        f"/save {tmp_path / 'fork.json'}",
        "/open " + old.id[:8],
        "/delete",
        "/chats old",
        "/restore",
        "/chats",
    )
    assert run.error is None
    assert "An old question: 2 messages:\nYou: An old question\nm: An old answer.\n" in run.told
    assert (tmp_path / "fork.json").exists()
    titles = {entry.title: entry for entry in store.chats()}
    assert titles["Old things"].pinned
    assert sorted(entry.messages for entry in store.chats()) == [4, 6]
    assert "Deleted: Old things" in run.told
    assert run.told.rstrip().splitlines()[-2].endswith("Old things, pinned (this one)")


def test_settings_of_a_chat_are_kept(store: Store) -> None:
    run = Run(store).lines("/set temperature 0.2", "/system Be brief.", "Hi", "/set", "/system")
    assert run.told.count("temperature = 0.2") == 2
    assert run.told.count("System prompt: Be brief.") == 2
    assert run.asked[0][0] == Message("system", "Be brief.")
    kept = store.load(run.conversation.id)
    assert (kept.settings["sampling"], kept.system) == ({"temperature": 0.2}, "Be brief.")
    run = Run(store).lines(f"/open {kept.id}", "/set -", "/system -")
    kept = store.load(kept.id)
    assert ("sampling" in kept.settings, kept.system) == (False, "")


def test_files_go_into_messages(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alpha")
    (tmp_path / "b.txt").write_text("beta")
    run = Run(store).lines(f"/attach {tmp_path / 'a.txt'}", f"Compare with @{tmp_path / 'b.txt'}", "again")
    assert "a.txt goes with the next message" in run.told
    assert "alpha" in run.asked[0][-1].content
    assert "beta" in run.asked[0][-1].content
    assert run.asked[1][-1].content == "again"


def test_copy_stats_and_help_print(store: Store) -> None:
    run = Run(store).lines("Hi", "/copy", "/stats", "/help", "//new")
    assert run.out == f"{PARIS}\n" * 3
    assert "reused from the KV cache" in run.told
    assert "/branch [N]: list the versions" in run.told
    assert run.asked[-1][-1].content == "/new"


def test_help_about_a_word_tells_no_more(store: Store) -> None:
    assert Run(store).lines("/help branch").told.splitlines()[-1].startswith("/branch [N]: list")


def test_what_a_terminal_would_obey_is_not_printed(store: Store) -> None:
    run = Run(store, Garage(Script(reply="red \x1b[31mtext\x07"))).lines("Hi", "/chats")
    assert "\x1b" not in run.out + run.told
    assert run.conversation.path()[-1].text == "red \x1b[31mtext\x07"


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("/open nothing", LocalLLMError, "no chat 'nothing'"),
        ("What is in @./nothere.txt ?", BadAttachment, "no file nothere.txt"),
        ("/model nowhere.gguf", ModelNotFound, "nowhere.gguf"),
        ("caf\udce9", BadText, "character 4"),
    ],
)
def test_a_mistake_ends_a_pipe_and_not_a_talk(store: Store, line: str, kind: type[LocalLLMError], message: str) -> None:
    run = Run(store).lines(line, "Hi")
    assert isinstance(run.error, kind)
    assert message in run.error.message
    assert run.out == ""
    run = Run(store, interactive=True).lines(line, "Hi")
    assert run.error is None
    assert f"error: {run.told.split('error: ')[1].splitlines()[0]}" in run.told
    assert message in run.told
    assert PARIS in run.out
    assert [message.content for message in run.asked[-1]] == ["Hi"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/modle", "no command /modle"),
        ("/rename x", "not kept"),
        ("/retry", "no question"),
        ("/continue", "did not end early"),
        ("/undo", "no question"),
        ("/edit x", "no question"),
        ("/fork", "nothing to fork"),
        ("/branch", "no messages"),
        ("/copy", "no reply"),
        ("/stats", "no reply"),
        ("/restore", "No chat was deleted"),
    ],
)
@pytest.mark.parametrize("interactive", [False, True])
def test_a_wrong_command_is_told_and_the_lines_behind_it_count(
    store: Store, line: str, message: str, interactive: bool
) -> None:
    run = Run(store, interactive=interactive).lines(line, "Hi")
    assert run.error is None
    assert run.code == (0 if interactive else 1)
    assert message in run.told.split("error: ")[1]
    assert PARIS in run.out
    assert [message.content for message in run.asked[-1]] == ["Hi"]


def test_a_reply_that_a_crash_cut_off_is_told(store: Store) -> None:
    chat = talk(store, "Wombats", "Half of")
    store.recovered = frozenset({chat.id})
    assert f"“Wombats” was cut off: /open {chat.id[:8]}" in Run(store, interactive=True).lines("Hi").told


def test_an_engine_that_dies_is_loaded_again_and_the_words_stay(store: Store) -> None:
    script = Script(reply="Some words and more", dies_after=3, error=EngineDied("The engine ended."))
    garage = Garage(script)

    class Mending(Lines):
        def messages(self) -> Iterator[str]:
            for text in super().messages():
                yield text
                script.error = None

    run = Run(store, garage, interactive=True)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as told:
        run.chat.run(Mending(io.StringIO("Go\n/continue\n"), interactive=False))
        run.chat.close()
    assert "error: The engine ended." in told.getvalue()
    assert out.getvalue().startswith("Some words")
    assert len(garage.models) == 2
    reply = store.load(run.conversation.id).path()[-1]
    assert reply.text.startswith("Some words")
    assert reply.text.endswith("and more")
    assert reply.state == "done"


def press_ctrl_c_at_the_first_word(run: Run) -> None:
    def press() -> None:
        while not any(node.text for node in run.conversation.nodes.values() if node.role == "assistant"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()


@pytest.mark.slow
def test_ctrl_c_stops_the_reply_and_keeps_it(store: Store) -> None:
    run = Run(store, Garage(SLOW), interactive=True)

    press_ctrl_c_at_the_first_word(run)
    run.lines("Count", "/stats")
    assert "Stopped. /continue goes on." in run.told
    assert run.out.startswith("One")
    assert run.conversation.path()[-1].state == "partial"
    assert "prompt" in run.told, "the chat went on"


@pytest.mark.slow
def test_ctrl_c_in_a_pipe_ends_it_and_keeps_the_words(store: Store) -> None:
    run = Run(store, Garage(SLOW))

    press_ctrl_c_at_the_first_word(run)
    run.lines("Count", "never asked")
    assert run.code == 130
    assert store.load(run.conversation.id).path()[-1].state == "partial"
    assert len(run.asked) == 1


def test_going_on_without_chats_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--plain", "--continue"]) == 1
    assert "no chat to go on with" in capsys.readouterr().err
    assert main(["chat", "--plain", "--chat", "x"]) == 1
    assert "no chats yet" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["chat", "--continue", "--chat", "x"])


def plain(*arguments: str, lines: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "localllm", "chat", "--plain", "--ctx", "512", "--temperature", "0", *arguments],
        input=lines,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | variables,
        check=False,
    )


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end", "(The model ended its answer before the first word. /retry answers.)"),
        ("context", "(The context has no room for an answer. --ctx makes it larger.)"),
    ],
)
def test_why_a_message_got_no_word_is_told(store: Store, reason: StopReason, told: str) -> None:
    run = Run(store, Garage(Script(reply="", stop_reason=reason))).lines("Capital?")
    assert told in run.told


def test_a_reply_that_repeats_itself_is_told_so(store: Store) -> None:
    script = Script(reply="The sky is blue because it is blue. " * 12, stop_reason="context")
    run = Run(store, Garage(script)).lines("Why?")
    assert "the answer repeats itself" in run.told
    assert "--ctx" not in run.told


@pytest.mark.slow
def test_no_reply_is_longer_than_it_may_be(smollm2: Path) -> None:
    done = plain(str(smollm2), "--max-tokens", "3", lines="Tell me a long story.\nAnother.\n")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Cut at the limit of tokens.") == 2
    store = Store.open(paths.chats_file())
    (entry,) = store.chats()
    costs = [node.stats.completion_tokens for node in store.load(entry.id).path() if node.stats is not None]
    store.close()
    assert costs == [3, 3]


@pytest.mark.slow
def test_the_real_model_in_a_pipe_goes_on_in_the_next_run(smollm2: Path) -> None:
    # Long enough to be worth a file of its KV cache.
    done = plain(str(smollm2), "--system", "Be brief. " * 60, lines="Name the capital of France.\n")
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    done = plain(str(smollm2), "--continue", lines="And of Italy?\n/stats\n")
    assert done.returncode == 0, done.stderr
    assert "Name the capital of France." in done.stderr
    assert "reused from the KV cache" in done.stderr
    store = Store.open(paths.chats_file())
    (entry,) = store.chats()
    assert entry.messages == 4
    stats = store.load(entry.id).path()[-1].stats
    store.close()
    assert stats is not None
    assert stats.cached_tokens > stats.prompt_tokens / 2, "the snapshot on disk was not used"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it_keeps_every_word(smollm2: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "localllm", "chat", "--plain", str(smollm2), "--temperature", "0"]
    chat = subprocess.Popen([*command, "--max-tokens", "2000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert chat.stdin is not None
    assert chat.stdout is not None
    chat.stdin.write(b"Write a very long story about a sailor.\n")
    chat.stdin.flush()
    said = chat.stdout.read(60)
    chat.send_signal(number)
    said += chat.communicate(timeout=60)[0]
    assert chat.returncode == 128 + number
    store = Store.open(paths.chats_file())
    (entry,) = store.chats()
    reply = store.load(entry.id).path()[-1]
    store.close()
    assert reply.state == "partial"
    assert reply.text.startswith(said.decode())


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"NO_COLOR": "1", "TERM": "dumb"}])
def test_a_dumb_terminal_gets_no_escape_codes(smollm2: Path, variables: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "localllm", "chat", str(smollm2), "--ctx", "512", "--temperature", "0"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | variables,
        start_new_session=True,
    )
    os.close(theirs)
    text = ""
    with os.fdopen(ours, "r+b", buffering=0) as terminal:

        def until(wanted: str) -> None:
            nonlocal text
            while wanted not in text:
                piece = os.read(terminal.fileno(), 4096)
                assert piece, text
                text += piece.decode()

        until("You: ")
        terminal.write(b"Name the capital of France.\n")
        until("Paris")
        while text.count("You: ") < 2:
            text += os.read(terminal.fileno(), 4096).decode()
        terminal.write(b"\x04")
        assert program.wait(30) == 0
    assert "\x1b" not in text


@pytest.mark.slow
def test_a_paste_of_several_lines_is_one_message(smollm2: Path) -> None:
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "localllm", "chat", "--plain", str(smollm2), "--ctx", "512"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    shown = bytearray()
    threading.Thread(target=drain, args=(ours, shown), daemon=True).start()
    try:
        until(lambda: b"You: " in shown, "the first prompt")
        os.write(ours, b"\x1b[200~one\rtwo\x1b[201~")
        until(lambda: b"two" in shown, "what was pasted")
        os.write(ours, b"\r")
        until(first_messages, "the message on disk")
        assert first_messages() == ["one\ntwo"]
    finally:
        program.kill()
        program.wait()
        os.close(ours)


def first_messages() -> list[str]:
    """How the chats on disk begin."""
    store = Store.open(paths.chats_file())
    try:
        return [store.load(entry.id).path()[0].text for entry in store.chats()]
    finally:
        store.close()


def test_a_chat_remembers_its_model_and_says_when_it_goes_on_with_another(store: Store, tmp_path: Path) -> None:
    run = Run(store).lines("Capital?")
    chat = store.load(store.chats()[0].id)
    assert chat.settings == {"model": str(Path("fake-1b.gguf").absolute())}
    assert "This chat used" not in run.told
    other = tmp_path / "other-3b.gguf"
    other.write_bytes(b"GGUF")
    store.set_settings(chat.id, {"model": str(other)})
    told = Run(store).lines("/open capital").told
    assert "This chat used other-3b, or the same model loaded otherwise. It goes on with fake-1b.gguf as it is." in told
    store.set_settings(chat.id, {"model": "qwen3:0.6b"})
    told = Run(store).lines("/open capital").told
    assert "It goes on with fake-1b.gguf." in told
    assert "localllm pull qwen3:0.6b" in told
