"""The proof beside a conversion: losses against a dequantizer that is not ours, templates, provenance, damage."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm.cli.main import main
from localllm.convert import convert
from localllm.convert.proof import roundtrip
from localllm.convert.settings import Settings
from localllm.gguf_file import Array, Header, read_header
from tests.convert.helpers import MakeTiny, edit_json


def _numbers(path: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    tensors = gguf.GGUFReader(path).tensors
    return {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in tensors}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M", "Q4_0", "F16"])
def test_losses_are_what_another_dequantizer_finds(
    tiny: MakeTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(roundtrip, "SAMPLE", 1)  # look at everything
    source = tiny(dtype="bf16")
    exact = _numbers(convert(source, tmp_path / "exact.gguf", type="F32").outfile)
    result = convert(source, tmp_path / "x.gguf", type=kind)
    found = _numbers(result.outfile)
    for tensor in result.verification.losses:
        before, after = exact[tensor.name].astype(np.float64), found[tensor.name].astype(np.float64)
        rmse = float(np.sqrt(np.square(before - after).sum() / np.square(before).sum()))
        assert tensor.looked_at == tensor.count == before.size
        assert tensor.loss.rmse == pytest.approx(rmse, rel=1e-6, abs=1e-12), tensor.name
    assert {tensor.name for tensor in result.verification.losses} == set(found)


@pytest.mark.slow
def test_a_sample_is_near_the_whole(tiny: MakeTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny(dtype="bf16")
    part = convert(source, tmp_path / "part.gguf", type="Q4_0").verification
    monkeypatch.setattr(roundtrip, "SAMPLE", 1)
    whole = convert(source, tmp_path / "whole.gguf", type="Q4_0").verification
    assert part.looked_at < 0.2
    assert whole.looked_at == 1
    assert part.rmse == pytest.approx(whole.rmse, rel=0.05)


def test_it_can_be_left_out(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    result = convert(source, tmp_path / "x.gguf", settings=Settings("Q8_0", verify=False))
    assert result.verification.losses == ()
    assert (tmp_path / "x.gguf").read_bytes() == convert(source, tmp_path / "y.gguf", type="Q8_0").outfile.read_bytes()


def _with_template(source: Path, template: str) -> Path:
    edit_json(source / "tokenizer_config.json", chat_template=template)
    return source


def test_the_template_is_rendered_both_ways(tiny: MakeTiny, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    proof = convert(_with_template(tiny(), template), tmp_path / "x.gguf", type="Q8_0").verification.template
    assert proof is not None
    assert proof.equal
    assert proof.conversations >= 4


def _texts(header: Header, key: str) -> list[str]:
    found = header.metadata[key]
    assert isinstance(found, Array)
    return [str(text) for text in found]


def test_where_it_comes_from_is_in_the_file(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    settings = Settings("Q8_0", output_type="Q6_K", hash_source=True)
    header = read_header(convert(source, tmp_path / "x.gguf", settings=settings).outfile)
    assert header.get("localllm.source.name") == source.name
    shards = sorted(source.glob("*.safetensors"))
    assert _texts(header, "localllm.source.files") == [shard.name for shard in shards]
    hashes = [hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards]
    assert _texts(header, "localllm.source.sha256") == hashes
    assert json.loads(str(header.get("localllm.settings"))) == {"output_type": "Q6_K"}


def test_the_report_names_every_tensor(tiny: MakeTiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, report = tmp_path / "x.gguf", tmp_path / "proof.json"
    assert main(["convert", str(tiny()), "--type", "Q8_0", "--outfile", str(target), "--report", str(report)]) == 0
    document = json.loads(report.read_text("utf-8"))
    assert set(document["tensors"]) == {info.name for info in read_header(target).tensors}
    assert document["verification"]["tensors"]["rmse"] > 0
    assert document["provenance"]
    assert "looked at" in capsys.readouterr().err
