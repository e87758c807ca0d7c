"""`localllm compare` on two quantizations of the real default model."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from localllm.cli.main import main

QUICK = ("--ctx", "512", "--max-tokens", "12")


@pytest.fixture(autouse=True)
def _no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input as in a terminal: nothing is piped."""
    monkeypatch.setattr(sys, "stdin", None)


@pytest.mark.slow
def test_texts_and_figures_side_by_side(smollm2_q2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "smollm2:135m", str(smollm2_q2), "Why is the sky blue?", *QUICK]) == 0
    out, err = capsys.readouterr()
    names = ("smollm2:135m", smollm2_q2.name)
    assert all(f"== {name} ==" in out for name in names)
    assert all(f"{name}: loading" in err for name in names)
    (heading,) = [line for line in out.splitlines() if line.split() == list(names)]
    assert heading
    figures = [line.split()[0] for line in out.splitlines() if line.count(" tok/s") == 2]
    assert figures == ["decode", "prefill"]
    assert "Q4_1" in out
    assert "Q2_K" in out
    assert "part at word" in out


@pytest.mark.slow
def test_three_models_a_pipe_and_json(
    smollm2: Path, smollm2_q2: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Why is the sky blue?"))
    models = [str(smollm2), str(smollm2_q2), str(smollm2)]
    assert main(["compare", *models, "--json", "--seed", "5", *QUICK]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["prompt"] == "Why is the sky blue?"
    first, second, third = document["answers"]
    assert first["text"] == third["text"] != second["text"]
    assert first["sampling"]["temperature"] == 0
    assert document["seed"] == first["sampling"]["seed"] == 5
    assert document["partings"][0]["words"] >= 0
    assert document["partings"][1] is None
    assert first["plan"]["kv"] == second["plan"]["kv"] > 0
    assert first["memory"]["process"] > 0
    assert first["stats"]["completion_tokens"] <= 12
    assert first["text"].strip() in err


@pytest.mark.slow
def test_thoughts_go_to_stderr(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    thinks = ["--grammar", 'root ::= "<think>A capital is asked.</think>\\n\\nParis."', "--ctx", "512"]
    words = ["compare", str(smollm2), str(smollm2), "Name the capital of France.", *thinks]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.count("==\nParis.\n") == 2
    assert "think" not in out
    assert "say the same" in out
    assert err.count("(Thinking.)\nA capital is asked.\n(Answering.)\n") == 2
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    first, _ = json.loads(out)["answers"]
    assert first["text"] == "<think>A capital is asked.</think>\n\nParis."
    assert (first["thought"], first["answer"]) == ("A capital is asked.", "Paris.")
    assert "think>" not in err


@pytest.mark.slow
def test_one_that_cannot_be_loaded_fails_and_the_other_answers(
    smollm2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(smollm2.read_bytes()[:4096])
    assert main(["compare", str(broken), str(smollm2), "Name the capital of France.", "--json", *QUICK]) == 1
    out, err = capsys.readouterr()
    first, second = json.loads(out)["answers"]
    assert "broken.gguf" in first["error"]
    assert "Paris" in second["text"]
    assert "error: " in err


def test_an_unknown_model_is_told_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "smollm2:135m", "smolm2:135m", "Hi there"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "smollm2:135m" in err.split("nearest")[1]
    assert "loading" not in err


@pytest.mark.parametrize("order", [1, -1])
def test_a_model_without_a_chat_template_is_told_before_anything_is_loaded(
    order: int, smollm2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare.gguf"
    bare.write_bytes(smollm2.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_reserved"))
    assert main(["compare", *[str(smollm2), str(bare)][::order], "Hi there", *QUICK]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "bare.gguf has no chat template: it cannot answer in a chat." in err
    assert "--chat-template FILE" in err
    assert "loading" not in err


@pytest.mark.slow
def test_a_template_that_is_given_serves_a_model_without_one(
    smollm2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare, template = tmp_path / "bare.gguf", tmp_path / "template.jinja"
    bare.write_bytes(smollm2.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_reserved"))
    template.write_text("{% for message in messages %}{{ message.content }}{% endfor %}:")
    words = ["compare", str(smollm2), str(bare), "The capital of France is", "--chat-template", str(template)]
    assert main([*words, "--json", *QUICK]) == 0
    first, second = json.loads(capsys.readouterr().out)["answers"]
    assert first["text"] == second["text"] != ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Hi there"], "needs two models"),
        (["smollm2:135m", "Hi there"], "needs two models"),
        (["smollm2:135m", "smollm2:135m", "smollm2:360m"], "there is no prompt"),
        (["smollm2:135m", "smollm2:135m", ""], "there is no prompt"),
    ],
)
def test_wrong_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
