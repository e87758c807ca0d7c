"""LoRA adapters: llama.cpp computes with base and adapter what it computes with the merged model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from make_tiny_models import Weights, as_bytes, write_safetensors

from localllm.cli.main import main
from localllm.convert import convert, convert_adapter
from localllm.convert.adapter import WEIGHTS
from localllm.convert.files import LocalFiles
from localllm.errors import BadCheckpoint, BadOutput, LocalLLMError, ModelNotFound, UnsupportedModel
from localllm.gguf_file import read_header
from tests.convert.golden import Golden, error, goldens, llama_outputs, seeded, weight, write_checkpoint

Floats = npt.NDArray[np.float32]
RANK = 4


def golden(name: str) -> Golden:
    (found,) = (golden for golden in goldens() if golden.name == name)
    return found


def pair(name: str, shape: tuple[int, ...], rank: int = RANK) -> tuple[Floats, Floats]:
    """A (rank, in) and B (out, rank) for a matrix (out, in)."""
    return weight(f"{name}.A", (rank, shape[1])), weight(f"{name}.B", (shape[0], rank))


def write_adapter(folder: Path, pairs: dict[str, tuple[Floats, Floats]], **settings: Any) -> Path:
    folder.mkdir()
    tensors = {}
    for name, matrices in pairs.items():
        for part, values in zip("AB", matrices, strict=True):
            data = as_bytes(values, "f32")
            target = f"base_model.model.{name.removesuffix('.weight')}.lora_{part}.weight"
            tensors[target] = Weights("f32", values.shape, lambda data=data: [data])  # type: ignore[misc]
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    defaults = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(defaults | settings))
    return folder


CASES = {
    "llama": r"q_proj|k_proj|v_proj|down_proj",
    "gpt2": r"c_attn\.weight|c_fc\.weight|c_proj\.weight",
    "phi3": r"qkv_proj|gate_up_proj",
    "pythia": r"query_key_value\.weight",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_llama_cpp_computes_what_the_merged_model_computes(name: str, tmp_path: Path) -> None:
    case = golden(name)
    base = write_checkpoint(case, tmp_path / "base")
    targets = {n: shape for n, shape in case.shapes.items() if len(shape) == 2 and re.search(CASES[name], n)}
    assert targets
    stored_transposed = name == "gpt2"
    pairs = {n: pair(n, shape[::-1] if stored_transposed else shape) for n, shape in targets.items()}
    merged = write_checkpoint(case, tmp_path / "merged")
    tensors = {n: seeded(n, shape) for n, shape in case.shapes.items()}
    for n, (a, b) in pairs.items():
        change = 2 * (b @ a)
        values = (weight(n, case.shapes[n]) + (change.T if stored_transposed else change)).astype(np.float32)
        tensors[n] = Weights("f32", values.shape, lambda values=values: [as_bytes(values, "f32")])  # type: ignore[misc]
    write_safetensors(merged / "model.safetensors", tensors)
    adapter = convert_adapter(write_adapter(tmp_path / "adapter", pairs), base, tmp_path / "lora.gguf").outfile
    plain = convert(base, tmp_path / "base.gguf", type="F32").outfile
    expected = llama_outputs(convert(merged, tmp_path / "merged.gguf", type="F32").outfile)
    assert error(expected, llama_outputs(plain, adapter=adapter)) < 1e-6
    assert error(expected, llama_outputs(plain)) > 1e-3


def some(tmp_path: Path, **settings: Any) -> tuple[Path, Path]:
    """The base and an adapter of one matrix."""
    case = golden("llama")
    base = write_checkpoint(case, tmp_path / "base")
    name = "model.layers.0.self_attn.q_proj.weight"
    return base, write_adapter(tmp_path / "adapter", {name: pair(name, case.shapes[name])}, **settings)


def test_only_the_configuration_of_the_base_is_read(tmp_path: Path) -> None:
    base, adapter = some(tmp_path)
    for file in base.iterdir():
        if file.name != "config.json":
            file.unlink()
    header = read_header(convert_adapter(adapter, base, tmp_path / "x.gguf").outfile)
    assert dict(header.metadata) == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "general.name": "adapter",
        "adapter.lora.alpha": 8.0,
        "general.quantization_version": 2,
    }
    assert [tensor.name for tensor in header.tensors] == ["blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b"]


def test_types(tmp_path: Path) -> None:
    base, adapter = some(tmp_path)
    exact = gguf.GGUFReader(convert_adapter(adapter, base, tmp_path / "exact.gguf").outfile).tensors
    for kind in ("F16", "BF16", "Q8_0"):
        found = gguf.GGUFReader(convert_adapter(adapter, base, tmp_path / f"{kind}.gguf", type=kind).outfile).tensors
        wanted = [kind, "F16" if kind == "Q8_0" else kind]  # rows of four numbers fill no block
        assert [tensor.tensor_type.name for tensor in found] == wanted
        for before, after in zip(exact, found, strict=True):
            np.testing.assert_array_equal(after.data, gguf.quants.quantize(before.data, after.tensor_type))
    with pytest.raises(UnsupportedModel, match="not written in 'Q4_K_M'"):
        convert_adapter(adapter, base, tmp_path / "x.gguf", type="Q4_K_M")


def test_rank_stabilized_scaling(tmp_path: Path) -> None:
    base, adapter = some(tmp_path, use_rslora=True)
    header = read_header(convert_adapter(adapter, base, tmp_path / "x.gguf").outfile)
    assert header.metadata["adapter.lora.alpha"] == pytest.approx(8 * RANK**0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "of type IA3"),
        ({"use_dora": True}, "is DoRA"),
        ({"bias": "all"}, "with biases"),
        ({"alpha_pattern": {"q_proj": 3}}, "an alpha per layer"),
        ({"lora_alpha": None}, "lora_alpha is None"),
    ],
)
def test_what_a_gguf_cannot_say_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    base, adapter = some(tmp_path, **settings)
    with pytest.raises(LocalLLMError, match=message):
        convert_adapter(adapter, base, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    base, _ = some(tmp_path)
    name = "model.layers.0.self_attn.q_proj.weight"
    wide = write_adapter(tmp_path / "wide", {name: pair(name, (640, 640))})
    with pytest.raises(BadCheckpoint, match=r"(?s)\[640, 4\] and \[4, 640\].*another base"):
        convert_adapter(wide, base, tmp_path / "x.gguf")
    name = "model.layers.99.self_attn.q_proj.weight"
    deep = write_adapter(tmp_path / "deep", {name: pair(name, (64, 64))})
    with pytest.raises(UnsupportedModel, match=r"changes model\.layers\.99"):
        convert_adapter(deep, base, tmp_path / "x.gguf")


def test_no_file_of_the_adapter_or_its_base_is_replaced(tmp_path: Path) -> None:
    case = golden("llama")
    base = write_checkpoint(case, tmp_path / "base")
    name = "model.layers.0.mlp.down_proj.weight"
    adapter = write_adapter(tmp_path / "adapter", {name: pair(name, case.shapes[name])})
    for file, what in ((adapter / WEIGHTS, "of the adapter itself"), (base / "config.json", "of the base")):
        before = file.read_bytes()
        with pytest.raises(BadOutput, match=f"{file.name} is a file {what}"):
            convert_adapter(adapter, base, file, force=True)
        assert file.read_bytes() == before


def test_experts_that_are_stacked_are_refused(tmp_path: Path) -> None:
    case = golden("mixtral")
    base = write_checkpoint(case, tmp_path / "base")
    name = next(n for n in case.shapes if "experts.0" in n or "experts.gate_up" in n)
    adapter = write_adapter(tmp_path / "adapter", {name: pair(name, case.shapes[name][-2:])})
    with pytest.raises(UnsupportedModel):
        convert_adapter(adapter, base, tmp_path / "x.gguf")


def test_the_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    base, adapter = some(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(base), "--lora", str(adapter), "--type", "f16"]) == 0
    out, err = capsys.readouterr()
    assert out == "adapter-F16.gguf\n"
    assert f"{(tmp_path / 'adapter-F16.gguf').stat().st_size:,} bytes" in err
    assert main(["convert", str(base), "--lora", str(adapter), "--preview", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["types"] == {"F32": 2}
    assert main(["convert", str(base), "--lora", str(base)]) == 1
    assert "holds no adapter" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["convert", str(base), "--lora", str(adapter), "--pure"])
    with pytest.raises(BadOutput, match="exists already"):
        convert_adapter(adapter, base, tmp_path / "adapter-F16.gguf")


def test_the_base_may_be_elsewhere(tmp_path: Path) -> None:
    base, adapter = some(tmp_path)
    near = convert_adapter(adapter, base, tmp_path / "near.gguf").outfile
    far = convert_adapter(adapter, LocalFiles(base), tmp_path / "far.gguf").outfile
    assert far.read_bytes() == near.read_bytes()
    (base / "config.json").unlink()
    with pytest.raises(ModelNotFound, match=r"base is not the base of an adapter: it has no config.json"):
        convert_adapter(adapter, LocalFiles(base), tmp_path / "x.gguf")
