"""`localllm run` on the real default model."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localllm import paths
from localllm.cli import prompts
from localllm.cli.main import main

QUESTION = "Name the capital of France."
GREEDY = ("--temperature", "0", "--ctx", "512")


@pytest.fixture(autouse=True)
def _no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input as in a terminal: nothing is piped."""
    monkeypatch.setattr(sys, "stdin", None)


def _pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


@pytest.mark.slow
def test_one_answer_on_stdout_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", QUESTION, *GREEDY]) == 0
    out, err = capsys.readouterr()
    assert "Paris" in out
    assert out.endswith("\n")
    assert err == ""
    assert "llama_model_loader" in paths.log_file().read_text()


@pytest.mark.slow
def test_json_has_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", QUESTION, "--json", *GREEDY, "--seed", "3"]) == 0
    out, _ = capsys.readouterr()
    answer = json.loads(out)
    assert "Paris" in answer["text"]
    assert set(answer["stats"]) == {
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "ttft_s",
        "prefill_tps",
        "decode_tps",
        "stop_reason",
        "drafted_tokens",
        "accepted_tokens",
        "dropped_messages",
        "dropped_tokens",
        "rewritten_tokens",
    }
    assert answer["stats"]["stop_reason"] == "end"
    assert answer["model"]
    assert answer["sampling"]["seed"] == 3


@pytest.mark.slow
def test_a_schema_and_a_grammar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = '{"type": "object", "properties": {"capital": {"enum": ["Paris", "Rome"]}}, "required": ["capital"]}'
    (tmp_path / "schema.json").write_text(schema)
    (tmp_path / "answer.gbnf").write_text('root ::= "Paris" | "Rome"')
    for given in (schema, str(tmp_path / "schema.json")):
        assert main(["run", "Capital of France?", "--schema", given, *GREEDY]) == 0
        assert json.loads(capsys.readouterr().out) == {"capital": "Paris"}
    for given in ('root ::= "Paris" | "Rome"', str(tmp_path / "answer.gbnf")):
        assert main(["run", "Capital of France?", "--grammar", given, *GREEDY]) == 0
        assert capsys.readouterr().out == "Paris\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--grammar", "root ::= ("], "line 1, column 10"),
        (["--grammar", "nowhere.gbnf"], "The grammar 'nowhere.gbnf' is no file"),
        (["--schema", "{]"], "The schema is no JSON"),
        (["--schema", '{"not": {}}'], '"not" cannot be expressed'),
    ],
)
def test_a_grammar_that_is_none_is_an_error(flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "Hi", *flags, *GREEDY]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "names_a_model"),
    [("Answer:", False), ("and/or:", False), ("Answer", False), ("smolm2:135m", True), ("nobody/nothing", True)],
)
def test_which_word_beside_a_pipe_names_a_model(word: str, names_a_model: bool) -> None:
    assert prompts.is_model(word, beside_a_pipe=True) is names_a_model
    assert not prompts.is_model(word, beside_a_pipe=False)


@pytest.mark.slow
def test_a_pipe_that_is_no_text_is_an_error() -> None:
    # Behind a prompt it is told by its place in the pipe, too.
    command = [sys.executable, "-m", "localllm", "run", "--max-tokens", "2", "Translate this:"]
    done = subprocess.run(command, input=b"caf\xe9", capture_output=True)
    assert done.returncode == 1
    assert b"What came on stdin is no valid UTF-8: at character 4 there is the byte 0xe9" in done.stderr
    assert b"iconv" in done.stderr


@pytest.mark.slow
def test_json_tells_log_probabilities(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["The capital of France is", "--raw", "--json", "--logprobs", "1", "--max-tokens", "2", "--stop", ","]
    assert main(["run", *words, *GREEDY]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] == "".join(token["text"] for token in answer["logprobs"])
    assert answer["logprobs"][0]["top"][0]["token"] == answer["logprobs"][0]["token"]
    assert set(answer["logprobs"][0]) == {"token", "text", "bytes", "logprob", "top"}


@pytest.mark.slow
def test_the_prompt_may_be_piped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _pipe(monkeypatch, QUESTION)
    assert main(["run", *GREEDY]) == 0
    assert "Paris" in capsys.readouterr().out


@pytest.mark.slow
def test_one_argument_beside_a_pipe_is_the_model(
    smollm2: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in (str(smollm2), "smollm2:135m"):
        _pipe(monkeypatch, QUESTION)
        assert main(["run", model, *GREEDY]) == 0
        assert "Paris" in capsys.readouterr().out


@pytest.mark.slow
def test_a_lone_argument_with_a_slash_is_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "and/or", "--max-tokens", "2", *GREEDY]) == 0
    assert capsys.readouterr().out


def test_a_mistyped_model_beside_a_pipe_is_no_prompt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _pipe(monkeypatch, QUESTION)
    assert main(["run", "smolm2:135m"]) == 1
    assert "smollm2:135m" in capsys.readouterr().err


@pytest.mark.slow
def test_a_terminal_that_cannot_show_a_character_shows_another() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = _run("--raw", "Translate to Japanese: 東京は日本の首都です。こんにちは、", *GREEDY, "--max-tokens", "12")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=True)
    assert b"?" in done.stdout
    assert done.stderr == b""


@pytest.mark.slow
def test_a_full_disk_is_an_error_not_a_traceback() -> None:
    with Path("/dev/full").open("wb") as full:
        command = _run("Hi", *GREEDY, "--max-tokens", "4")
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_a_prompt_and_a_pipe_are_joined(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _pipe(monkeypatch, "The rain in Spain")
    assert main(["run", "Repeat this:", "--json", "--raw", "--max-tokens", "1", *GREEDY]) == 0
    joined = json.loads(capsys.readouterr().out)["stats"]["prompt_tokens"]
    assert main(["run", "Repeat this:", "--json", "--raw", "--max-tokens", "1", *GREEDY]) == 0
    assert joined > json.loads(capsys.readouterr().out)["stats"]["prompt_tokens"]


@pytest.mark.slow
def test_raw_continues_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--raw", "The capital of France is", "--max-tokens", "2", *GREEDY]) == 0
    assert capsys.readouterr().out == " Paris.\n"


@pytest.mark.slow
def test_a_system_prompt_changes_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--max-tokens", "16", *GREEDY)
    assert main(["run", "Who are you?", *short]) == 0
    plain = capsys.readouterr().out
    assert main(["run", "Who are you?", "--system", "You are a pirate.", *short]) == 0
    assert capsys.readouterr().out != plain


@pytest.mark.slow
def test_what_a_shift_left_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--raw", "The cat sat on the mat and the dog", "--temperature", "0", "--ctx", "256"]
    assert main([*command, "--window", "shift", "--max-tokens", "300"]) == 0
    assert "tokens left out, the oldest." in capsys.readouterr().err


@pytest.mark.slow
def test_an_answer_cut_by_the_context_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--raw", "word " * 245, "--temperature", "0", "--ctx", "256"]) == 0
    out, err = capsys.readouterr()
    assert out
    assert "context is full" in err


@pytest.mark.slow
@pytest.mark.parametrize("limit", [[], ["--max-tokens", "100"]])
def test_an_answer_that_repeats_itself_is_not_told_to_take_a_larger_context(
    capsys: pytest.CaptureFixture[str], limit: list[str]
) -> None:
    command = ["run", "--raw", "the cat sat on the mat and " * 8, "--temperature", "0", "--ctx", "256", *limit]
    assert main(command) == 0
    err = capsys.readouterr().err
    assert "repeats itself" in err
    assert "--repeat-penalty" in err
    assert "--ctx" not in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere/model.gguf", "Hi"], "nowhere/model.gguf"),
        (["run", "smolm2:135m", "Hi"], "smollm2:135m"),
        (["run", "word " * 600, "--ctx", "512"], "too many"),
        (["run", "word" * 600, "Hi"], "There is no model"),
        (["run", "word" * 600 + "/model.gguf", "Hi"], "there is no folder"),
        (["run", "Hi", "--gpu-layers", "7"], "7 layers"),
    ],
)
def test_errors_are_plain_and_say_what_to_do(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", ""],
        ["run", "Hi", "--raw", "--system", "x"],
        ["run", "Hi", "--temperature", "-1"],
        ["run", "Hi", "--top-p", "2"],
        ["run", "Hi", "--repeat-penalty", "0"],
        ["run", "Hi", "--samplers", "top_q"],
        ["run", "Hi", "--logprobs", "2"],
        ["run", "Hi", "--stop", ""],
        ["run", "Hi", "--logit-bias", "Paris"],
        ["run", "Hi", "--ctx", "many"],
        ["run", "Hi", "--kv-type", "q9"],
        ["run", "Hi", "--batch", "4294967296"],
        ["run", "Hi", "--threads", "100000"],
        ["run", "Hi", "--seed", "4294967295"],
        ["frobnicate"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert "usage:" in errors
    assert arguments == ["frobnicate"] or len(errors.splitlines()) == 2


@pytest.mark.slow
def test_files_that_are_no_models(tmp_path: Path, smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    assert main(["run", str(text), "Hi"]) == 1
    assert "text.gguf" in capsys.readouterr().err
    cut = tmp_path / "cut.gguf"
    with smollm2.open("rb") as source:
        cut.write_bytes(source.read(60_000_000))
    assert main(["run", str(cut), "Hi"]) == 1
    assert "cut short" in capsys.readouterr().err


class Started:
    """A command in a process of its own, its output in pipes."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdout, self.stderr = self.process.stdout, self.process.stderr

    def interrupt(self) -> tuple[int, bytes, bytes]:
        """Press Ctrl-C; returns exit code, the rest of stdout, and stderr."""
        self.process.send_signal(signal.SIGINT)
        rest, errors = self.process.communicate(timeout=20)
        return self.process.returncode, rest, errors


def _run(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "localllm", "run", *arguments]


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_said() -> None:
    started = Started(_run("Tell me a very long story.", "--temperature", "0"))
    first = started.stdout.read(20)
    code, rest, errors = started.interrupt()
    assert code == 130
    assert len(first) == 20
    assert rest.endswith(b"\n")
    assert errors == b""


# Says when the named function is entered, and what the evaluation of the prompt came to.
WATCHED = """
import sys
from localllm.cli.main import main
from localllm.native import handles, log
from localllm.runtime import step
where = sys.argv.pop(1)
load, decode = handles.open_model, step.Step._decode
def watched_load(*args, progress=None, **options):
    if progress is None:
        return load(*args, **options)  # a simulated one, for the plan
    def slow(fraction):
        print("load", flush=True)
        time.sleep(0.01)
        return progress(fraction)
    return load(*args, progress=slow, **options)
def watched_decode(self, tokens):
    print("prefill", flush=True)
    done = decode(self, tokens)
    print("aborted" if done == 2 else "decoded", file=sys.stderr, flush=True)
    return done
seen = []
def first_line(_level, line):
    if not seen:
        seen.append(line)
        print("log", flush=True)
        time.sleep(0.5)
def watched_log():
    log.set_log(first_line)
import time
if where == "load":
    handles.open_model = watched_load
elif where == "log":
    log.to_stderr = watched_log
else:
    step.Step._decode = watched_decode
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_ctrl_c_while_llama_cpp_logs_is_not_lost() -> None:
    started = Started([sys.executable, "-c", WATCHED, "log", "run", "Hi", "--verbose"])
    assert started.stdout.readline() == b"log\n"
    code, _, errors = started.interrupt()
    assert code == 130
    assert errors == b"interrupted\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["plan", "tune"])
def test_ctrl_c_while_llama_cpp_logs_a_simulated_load_is_not_lost(command: str) -> None:
    started = Started([sys.executable, "-c", WATCHED, "log", command, "--verbose"])
    assert started.stdout.readline() == b"log\n"
    code, rest, errors = started.interrupt()
    assert (code, rest) == (130, b"")
    assert errors.endswith(b"interrupted\n")


@pytest.mark.slow
def test_ctrl_c_while_loading_ends_the_load() -> None:
    started = Started([sys.executable, "-c", WATCHED, "load", "run", "Hi"])
    assert started.stdout.readline() == b"load\n"
    code, _, errors = started.interrupt()
    assert code == 130
    assert errors == b"interrupted\n"


@pytest.mark.slow
def test_ctrl_c_ends_the_reading_of_a_long_prompt() -> None:
    prompt = "The history of the city begins with a small market by the river. " * 500
    started = Started([sys.executable, "-c", WATCHED, "prefill", "run", prompt, "--batch", "8192", "--ubatch", "8192"])
    assert started.stdout.readline() == b"prefill\n"
    time.sleep(0.1)
    code, rest, errors = started.interrupt()
    assert code == 130
    assert errors == b"aborted\n"
    assert rest == b"\n"


@pytest.mark.slow
def test_a_closed_pipe_is_no_error() -> None:
    started = Started(_run("Tell me a very long story.", "--temperature", "0"))
    started.stdout.read(10)
    started.stdout.close()
    assert started.stderr.read() == b""
    started.process.wait(timeout=20)
    started.stderr.close()


@pytest.mark.slow
def test_the_answer_streams_to_a_terminal() -> None:
    leader, follower = pty.openpty()
    command = _run("Count from one to fifty in words.", *GREEDY, "--max-tokens", "60")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=follower) as process:
        os.close(follower)
        chunks = 0
        while True:
            try:
                if not os.read(leader, 4096):
                    break
            except OSError:
                break
            chunks += 1
        process.wait(timeout=20)
    os.close(leader)
    assert process.returncode == 0
    assert chunks > 10


@pytest.mark.slow
def test_a_thought_goes_to_stderr_and_is_apart_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    thinks = ["--grammar", 'root ::= "<think>A capital\tis asked.</think>\\n\\nParis\\t."', *GREEDY]
    assert main(["run", QUESTION, *thinks]) == 0
    said = capsys.readouterr()
    assert said.out == "Paris\t.\n"
    assert "(Thinking.)\nA capital" in said.err
    assert main(["run", QUESTION, *thinks, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] == "<think>A capital\tis asked.</think>\n\nParis\t."
    assert (answer["thought"], answer["answer"]) == ("A capital\tis asked.", "Paris\t.")
    assert main(["run", QUESTION, *thinks, "--raw", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["thought"], answer["answer"]) == (None, answer["text"])
    assert main(["run", QUESTION, *thinks, "--raw"]) == 0
    assert capsys.readouterr().out.startswith("<think>A capital")


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False])
def test_an_answer_that_max_tokens_ends_is_told_in_a_terminal(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert main(["run", "Tell me a story.", "--max-tokens", "3", *GREEDY]) == 0
    assert ("ends after 3 tokens" in capsys.readouterr().err) is terminal
