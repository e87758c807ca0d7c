"""`localllm convert`: what is printed where, exit codes, and a signal in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from make_tiny_models import TinyLlama, write_checkpoint

from localllm.cli.main import main
from localllm.gguf_file import read_header


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "tiny-llama", TinyLlama())


@pytest.mark.slow
def test_json_is_the_last_line_of_stdout(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "x.gguf"
    assert main(["convert", str(checkpoint), "--outfile", str(target), "--type", "q8_0", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert {"outfile", "bytes", "types", "seconds", "verification"} <= found.keys()
    assert (found["outfile"], found["bytes"], found["type"]) == (str(target), target.stat().st_size, "Q8_0")
    assert sum(found["types"].values()) == found["verification"]["tensors"]["count"] == len(read_header(target).tensors)
    assert found["verification"]["tokenizer"]["equal"] is True
    assert f"{target.stat().st_size:,} bytes" in err


@pytest.mark.slow
def test_people_get_the_name_of_the_file_on_stdout(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "tiny-llama"]) == 0
    told = capsys.readouterr()
    assert told.out == "tiny-llama-Q4_K_M.gguf\n"
    assert told.err.splitlines()[-1].startswith("next: localllm ")
    assert "tiny-llama-Q4_K_M.gguf" in told.err.splitlines()[-1]
    assert read_header(tmp_path / "tiny-llama-Q4_K_M.gguf").quantization == "Q4_K_M"


@pytest.mark.slow
def test_a_model_of_embeddings_ends_with_its_next_step_and_tells_a_count_once(
    minilm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "minilm.gguf"
    assert main(["convert", str(minilm), "--outfile", str(target)]) == 0
    err = capsys.readouterr().err
    assert err.count("351 of") == 1
    assert err.splitlines()[-1] == f"next, in Python: localllm.load({str(target)!r}).embed(texts)"
    assert main(["verify", str(target), "--against", str(minilm)]) == 0
    assert capsys.readouterr().out.count("351 of") == 1


@pytest.mark.slow
def test_preview_lists_every_tensor_and_writes_nothing(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "tiny-llama", "--preview"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("blk.1.ffn_down.weight") and "Q6_K" in line for line in lines)
    assert main(["convert", "tiny-llama", "--preview", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert f"{found['bytes']:,}" in lines[-1]
    assert len(found["tensors"]) == len(lines) - 1
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-llama"]


def test_an_error_is_a_message_and_exit_code_1(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "model.safetensors").unlink()
    assert main(["convert", str(checkpoint), "--outfile", str(tmp_path / "x.gguf")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "holds no weights" in err


@pytest.mark.slow
def test_an_existing_file_needs_force(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "x.gguf"
    target.write_text("precious")
    command = ["convert", str(checkpoint), "--outfile", str(target)]
    assert main(command) == 1
    assert "--force" in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert main([*command, "--force"]) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["x", "--tensor-type", "Q8_0"],
        ["x", "--tensor-type", "(=Q8_0"],
        ["x", "--tensor-type", "ffn="],
        ["x", "--preview", "--report", "proof.json"],
        ["x", "--preview", "--resume"],
    ],
)
def test_wrong_usage_is_exit_code_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["convert", *wrong])
    assert stopped.value.code == 2


@pytest.mark.slow
def test_types_of_single_tensors(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--type", "q4_0", "--tensor-type", "ffn_down=Q6_K", "--tensor-type", "attn_[qk]=f16"]
    flags += ["--output-type", "q5_k", "--embedding-type", "iq4_nl"]
    assert main(["convert", str(checkpoint), "--preview", "--json", *flags]) == 0
    types = {tensor["name"]: tensor["type"] for tensor in json.loads(capsys.readouterr().out)["tensors"]}
    wanted = {"blk.0.ffn_down": "Q6_K", "blk.1.attn_k": "F16", "blk.1.attn_v": "Q4_0"}
    wanted |= {"output": "Q5_K", "token_embd": "IQ4_NL"}
    assert {name: types[f"{name}.weight"] for name in wanted} == wanted
    assert main(["convert", str(checkpoint), "--preview", "--json", "--pure", "--exact-source"]) == 0
    assert json.loads(capsys.readouterr().out)["types"].keys() == {"Q4_K", "F32"}


@pytest.mark.slow
def test_a_folder_goes_before_a_repo_of_its_name_and_says_so(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org").mkdir()
    checkpoint.rename(tmp_path / "org" / "name")
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "org/name", "--preview"]) == 0
    assert "note: org/name is a folder here; the hub is not asked" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_leaves_nothing_behind(tmp_path: Path, number: int, code: int) -> None:
    source = write_checkpoint(tmp_path / "wide", TinyLlama(layers=6, hidden=1024, ffn=4096, heads=16, kv_heads=16))
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "localllm", "convert", str(source), "--outfile", str(out / "x.gguf")]
    with subprocess.Popen([*command, "--type", "IQ4_XS"], stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None and not list(out.glob("*.part")) and not list(out.glob(".*.part")):
            time.sleep(0.01)
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
    assert child.returncode == code, err
    assert list(out.iterdir()) == []
