"""`localllm show`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from localllm import settings
from localllm.cli.main import main
from localllm.convert.header import KeyValue, f32, text, texts, u16, u32
from tests.library.stores import gguf, put, put_ollama


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["show", *args]) == 0
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shown(capsys, *args, "--json").splitlines()[-1])
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "models_dirs", lambda: [tmp_path])
    return tmp_path


def test_the_default_model(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = {" ".join(line.split()) for line in shown(capsys, "smollm2:135m").splitlines()}
    assert {
        "smollm2:135m",
        "architecture llama",
        "weights 134,515,008 in 272 tensors",
        "layers 30",
        "context 8,192 tokens",
        "heads 9, 3 of keys and values",
        "quantization Q4_1",
        "F32 61 tensors, 0.1 MB",
        "tokenizer gpt2 (smollm), 49,152 tokens",
        "eos 2 '<|im_end|>'",
        "template 368 characters",
        "licence apache-2.0",
        "size 98.4 MB",
        "place package",
    } <= lines


def test_for_programs(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys)
    assert (found["name"], found["path"], found["bytes"]) == ("smollm2:135m", str(smollm2), 98_362_432)
    assert found["types"]["Q4_1"] == {"tensors": 210, "bytes": 66_355_200}
    assert found["special_tokens"]["bos"] == {"id": 1, "text": "<|im_start|>"}
    assert found["metadata"]["tokenizer.ggml.tokens"] == {"length": 49152}
    assert found["metadata"]["general.languages"] == ["en"]
    assert "tensors" not in found
    assert len(document(capsys, "--tensors")["tensors"]) == 272


def test_the_template_as_it_stands_in_the_file(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "smollm2:135m", "--template")
    assert found == document(capsys)["template"] + "\n"
    assert found.startswith("{% for message in messages %}")


def test_every_tensor(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder / "m.gguf")
    lines = [line.split() for line in shown(capsys, "m", "--tensors").splitlines()]
    assert lines[-3:] == [
        ["tensor", "shape", "type", "bytes"],
        ["token_embd.weight", "256", "x", "3", "Q4_K", "432"],
        ["output_norm.weight", "256", "F32", "1,024"],
    ]


def test_where_it_came_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys: dict[str, KeyValue] = {
        "localllm__source__repository": text("org/name"),
        "localllm__source__revision": text("abc"),
        "general__base_model__0__name": text("Base 1B"),
        "general__base_model__0__organization": text("Maker"),
        "general__quantized_by": text("someone"),
        "general__license__link": text("https://example.org/terms"),
        "quantize__imatrix__file": text("calibration.dat"),
        "llama__expert_count": u32(8),
        "llama__expert_used_count": u32(2),
    }
    put(folder / "m.gguf", gguf(**keys))
    found = document(capsys, "m")
    assert found["origins"] == [
        "org/name@abc",
        "Maker Base 1B",
        "quantized by someone",
        "with the importance matrix calibration.dat",
    ]
    assert found["licence"] == "apache-2.0, https://example.org/terms"
    assert "8, 2 of them for each token" in shown(capsys, "m")


def test_a_split_model_is_shown_as_a_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        content = gguf(f"part {number}", split__count=u16(2), split__no=u16(number))
        put(folder / f"m-0000{number + 1}-of-00002.gguf", content)
    found = document(capsys, "m")
    assert (found["parameters"], len(found["files"])) == (2048, 2)
    assert "in 2 parts" in shown(capsys, "m")


def test_what_ollama_adds_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    put_ollama(tmp_path / "ollama", "mine:1b", gguf(), adapter=b"lora")
    found = shown(capsys, "mine:1b")
    assert "LoRA adapter" in found
    assert "Ollama" in found


def test_a_file_cannot_give_orders_to_the_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"general__name": text("a\x1b[2Jb"), "tokenizer__chat_template": text("x\n\x1b[31m")}
    put(folder / "m.gguf", gguf(**keys, tokenizer__ggml__tokens=texts(["\x1b"]), tokenizer__ggml__bos_token_id=u32(0)))
    assert "\x1b" not in shown(capsys, "m", "--tensors")
    assert shown(capsys, "m", "--template") == "x\n\x1b[31m\n"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdout", screen := Terminal())
    assert main(["show", "m", "--template"]) == 0
    assert screen.getvalue() == "x\n\N{REPLACEMENT CHARACTER}[31m\n"


def test_odd_values_are_valid_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder / "m.gguf", gguf(llama__odd=f32(float("nan")), tokenizer__ggml__eos_token_id=u32(99)))
    found = document(capsys, "m")
    assert found["metadata"]["llama.odd"] == "nan"
    assert found["special_tokens"]["eos"] == {"id": 99, "text": ""}


def test_without_a_template(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder / "m.gguf", gguf(tokenizer__chat_template=text("")))
    assert main(["show", "m", "--template"]) == 1
    assert "has no chat template" in capsys.readouterr().err


def test_a_damaged_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder / "m.gguf", gguf()[:-100])
    assert main(["show", "m"]) == 1
    assert "is cut short: 100 bytes are missing" in capsys.readouterr().err
