"""`localllm verify`: what is printed where, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from make_tiny_models import TinyLlama, write_checkpoint

from localllm.cli.main import main
from localllm.cli.report import write_report
from localllm.convert import Settings, convert
from localllm.errors import BadOutput
from localllm.gguf_file import read_header


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("verify") / "tiny-llama", TinyLlama())


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Path:
    return convert(checkpoint, checkpoint.with_name("x.gguf"), type="Q4_K_M").outfile


def test_a_file_by_itself_suggests_what_it_was_made_of(
    checkpoint: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(model)]) == 0
    out = capsys.readouterr().out
    assert "made of: tiny-llama, by localllm" in out
    assert "320 tokens" in out
    assert "Nothing is wrong with the file by itself" in out
    assert f"  localllm verify {model} --against {checkpoint}" in out


@pytest.mark.slow
def test_against_its_checkpoint(checkpoint: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(model), "--against", str(checkpoint)]) == 0
    out = capsys.readouterr().out
    count = len(read_header(model).tensors)
    assert f"bytes: {count} of {count} tensors are what quantizing the source gives, to the last byte" in out
    assert "the same token ids as the source's" in out
    assert out.splitlines()[-1].startswith("It is the model, to the last byte")
    assert any(line.split()[0] == "ffn_down" for line in out.splitlines() if line.strip())


@pytest.mark.slow
def test_the_verdict_names_what_is_not_as_in_the_source(
    minilm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = convert(minilm, tmp_path / "x.gguf", type="F16").outfile
    assert main(["verify", str(path), "--against", str(minilm)]) == 0
    *_, verdict = capsys.readouterr().out.splitlines()
    assert verdict.startswith("Its weights are those of the model, to the last byte, but 351 of 3,484 texts get other")
    assert main(["verify", str(path), "--against", str(minilm), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["but"] == ["351 of 3,484 texts get other token ids in llama.cpp"]
    assert (found["ok"], found["tokenizer"]["equal"], found["tokenizer"]["mismatch"]) == (True, False, None)


@pytest.mark.slow
def test_the_verdict_names_what_whoever_converted_it_wanted(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = (("general.description", "mine"), ("llama.context_length", "77"))
    path = convert(checkpoint, tmp_path / "x.gguf", settings=Settings("Q8_0", prune_layers=(1,), metadata=metadata))
    assert main(["verify", str(path.outfile), "--against", str(checkpoint)]) == 0
    *_, verdict = capsys.readouterr().out.splitlines()
    but = "but it was made without the layers 1; whoever converted it set llama.context_length ("
    assert verdict.startswith(f"Its weights are those of the model, to the last byte, {but}")


@pytest.mark.slow
def test_json_is_the_last_line_of_stdout(checkpoint: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(model), "--against", str(checkpoint), "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["ok"] is True
    assert found["problems"] == []
    assert found["tokenizer"]["equal"] is found["template"]["equal"] is True
    assert found["tensors"]["identical"] == found["tensors"]["count"]
    assert found["tensors"]["looked_at"] == found["tensors"]["weights"]
    assert found["tensors"]["roles"]["ffn_down"]["rmse"] > 0
    assert found["metadata"]["different"] == {}
    assert found["provenance"]["source.name"] == "tiny-llama"
    assert "It is the model" in err


def test_a_file_by_itself_compares_nothing(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["against"], found["tokenizer"], found["metadata"]) == (None, None, None)
    assert found["template"]["equal"] is None
    assert found["vocabulary"] == {"model": "gpt2", "pre": found["vocabulary"]["pre"], "tokens": 320}
    assert found["tensors"]["bytes_read"] > 0
    assert Path(found["source_here"]).name == "tiny-llama"


@pytest.mark.slow
def test_what_is_wrong_is_said_and_the_exit_code_is_1(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_checkpoint(tmp_path / "other", TinyLlama(seed=2))
    assert main(["verify", str(model), "--against", str(other), "--json"]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["ok"] is False
    assert found["problems"][0]["about"] == "tensors"
    assert "problem, tensors: the file holds other weights" in err
    assert "It is NOT well: 1 problem" in err


@pytest.mark.slow
def test_the_report_has_every_tensor(checkpoint: Path, model: Path, tmp_path: Path) -> None:
    report = tmp_path / "proof.json"
    assert main(["verify", str(model), "--against", str(checkpoint), "--report", str(report)]) == 0
    found = json.loads(report.read_text("utf-8"))
    assert found["each"].keys() == {info.name for info in read_header(model).tensors}
    assert found["each"]["blk.0.ffn_up.weight"]["identical"] is True
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(("place", "says"), [("none/proof.json", "there is no folder"), (".", "is a folder")])
def test_a_report_that_cannot_be_written_is_an_error_before_the_work(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, says: str
) -> None:
    for command in (["verify", str(model)], ["convert", str(model), "--outfile", str(tmp_path / "new.gguf")]):
        assert main([*command, "--report", str(tmp_path / place)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "The report cannot be written" in err
        assert says in err
    assert not (tmp_path / "new.gguf").exists()


@pytest.mark.slow
def test_a_report_does_not_replace_the_model(
    model: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = model.read_bytes()
    assert main(["verify", str(model), "--report", str(model)]) == 1
    assert "is the name of a model" in capsys.readouterr().err
    assert model.read_bytes() == before
    for new in (str(tmp_path / "new.gguf"), str(tmp_path / "new")):
        assert main(["convert", str(checkpoint), "--type", "Q8_0", "--outfile", new, "--report", new]) == 1
        assert "is the name of a model" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_report_replaces_nothing_but_a_report(
    model: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, report = checkpoint / "config.json", tmp_path / "proof.json"
    before = config.read_bytes()
    assert main(["verify", str(model), "--report", str(config)]) == 1
    assert "config.json is there already and is no report" in capsys.readouterr().err
    assert config.read_bytes() == before
    report.touch()
    for _ in range(2):
        assert main(["verify", str(model), "--report", str(report)]) == 0
    assert json.loads(report.read_text("utf-8"))["ok"] is True
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    assert main(["verify", str(model), "--report", str(link)]) == 1


def test_a_report_that_fails_after_the_work_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(BadOutput, match=r"cannot be written: No such file or directory\. The file was checked\."):
        write_report(tmp_path / "gone" / "proof.json", {}, "The file was checked.")


@pytest.mark.parametrize("flags", [["--imatrix", "m.gguf"], ["--hash"]])
def test_what_needs_a_source_is_wrong_usage_without(model: Path, flags: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(model), *flags])
    assert stopped.value.code == 2


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "none.gguf")]) == 1
    assert "error: " in capsys.readouterr().err
