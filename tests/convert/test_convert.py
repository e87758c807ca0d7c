"""Whole conversions: the bytes are those of llama.cpp's own quantizer, and a real model still knows its capital."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from bench_convert import measure
from compare_gguf import different_keys, different_tensors

from localllm.convert import Settings, convert, corpus, preview
from localllm.convert.quantizations import FLOAT_TYPES, TYPES
from localllm.errors import MissingPackage
from localllm.gguf_file import read_header
from localllm.native.quants import quantize_file
from localllm.native.vocab import open_vocab
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from tests.convert.helpers import NEED_IMATRIX, MakeTiny, edit_json

ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SHAPES: dict[str, dict[str, Any]] = {
    "bf16, untied, sharded": {"shards": 3},
    "f32, bias, rows of 96": {"dtype": "f32", "hidden": 96, "heads": 2, "kv_heads": 1, "bias": True},
    "f16, tied, llama3 rope": {"dtype": "f16", "tied": True, "config": {"rope_theta": None, "rope_parameters": ROPE}},
}


@pytest.mark.slow
@pytest.mark.parametrize("numbers", SHAPES.values(), ids=SHAPES)
def test_every_type_equals_what_llama_quantize_makes_of_the_16_bit_file(
    tiny: MakeTiny, tmp_path: Path, numbers: dict[str, Any]
) -> None:
    source = tiny(**numbers)
    half = "BF16" if numbers.get("dtype", "bf16") == "bf16" else "F16"
    between = convert(source, tmp_path / "between.gguf", type=half).outfile
    for kind in TYPES:
        if kind in FLOAT_TYPES or (kind == "Q1_0" and numbers.get("hidden") == 96):
            continue
        if kind in NEED_IMATRIX or (kind.startswith("IQ") and numbers.get("dtype")):
            continue  # the slow ones once are enough; those that need an importance matrix are in test_imatrix.py
        ours = convert(source, tmp_path / "ours.gguf", type=kind, force=True).outfile
        quantize_file(between, tmp_path / "theirs.gguf", kind)
        assert ours.read_bytes() == (tmp_path / "theirs.gguf").read_bytes(), kind


@pytest.mark.slow
def test_the_exact_source_is_quantized_without_rounding_it_first(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(dtype="f32")
    between = convert(source, tmp_path / "between.gguf", type="F32").outfile
    quantize_file(between, tmp_path / "theirs.gguf", "Q4_K_M")
    exact = convert(source, tmp_path / "exact.gguf", settings=Settings(exact_source=True)).outfile
    rounded = convert(source, tmp_path / "rounded.gguf").outfile
    theirs = read_header(tmp_path / "theirs.gguf")
    assert different_tensors(read_header(exact), theirs) == []
    assert different_tensors(read_header(rounded), theirs) != []


@pytest.mark.slow
@pytest.mark.parametrize("kind", FLOAT_TYPES)
@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
def test_float_types_hold_the_rounded_numbers_of_the_checkpoint(
    tiny: MakeTiny, tmp_path: Path, kind: str, dtype: str
) -> None:
    source = tiny(dtype=dtype)
    reader = gguf.GGUFReader(convert(source, tmp_path / "x.gguf", type=kind).outfile)
    exact = gguf.GGUFReader(convert(source, tmp_path / "exact.gguf", type="F32").outfile)
    numbers = {tensor.name: tensor.data for tensor in exact.tensors}
    for tensor in reader.tensors:
        wanted = gguf.GGMLQuantizationType[kind] if len(tensor.shape) > 1 else gguf.GGMLQuantizationType.F32
        assert tensor.tensor_type == wanted
        np.testing.assert_array_equal(tensor.data, gguf.quants.quantize(numbers[tensor.name], wanted))


def test_f32_from_f32_is_lossless(tiny: MakeTiny, tmp_path: Path) -> None:
    from localllm.convert.checkpoint import open_checkpoint

    source = tiny(dtype="f32")
    tensors = {
        t.name: t.data for t in gguf.GGUFReader(convert(source, tmp_path / "x.gguf", type="F32").outfile).tensors
    }
    with open_checkpoint(source) as checkpoint:
        np.testing.assert_array_equal(
            tensors["blk.1.ffn_up.weight"], checkpoint.rows("model.layers.1.mlp.up_proj.weight", 0, 512)
        )
        q = checkpoint.rows("model.layers.1.self_attn.q_proj.weight", 0, 256)
    turned = q.reshape(4, 2, 32, 256).swapaxes(1, 2).reshape(256, 256)
    np.testing.assert_array_equal(tensors["blk.1.attn_q.weight"], turned)


@pytest.mark.slow
def test_the_preview_is_exact_and_writes_nothing(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    before = sorted(tmp_path.rglob("*"))
    found = preview(source, "q4_k_m")
    assert sorted(tmp_path.rglob("*")) == before
    result = convert(source, tmp_path / "x.gguf", type="Q4_K_M")
    assert result.outfile.stat().st_size == result.bytes == found.bytes
    infos = [(info.name, info.shape, info.type_name, info.n_bytes) for info in read_header(result.outfile).tensors]
    assert infos == [(t.name, t.shape, t.type, t.bytes) for t in found.tensors]
    assert sum(found.types.values()) == len(infos)


@pytest.mark.slow
def test_the_size_is_announced_before_the_file_is_there(tiny: MakeTiny, tmp_path: Path) -> None:
    target, seen = tmp_path / "x.gguf", []
    result = convert(
        tiny(), target, announce=lambda found, path: seen.append((found.bytes, path, list(tmp_path.glob("*x.gguf*"))))
    )
    assert seen == [(result.bytes, target, [])]


def test_the_file_is_named_after_the_checkpoint(
    tiny: MakeTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny("My-Model-1B")
    monkeypatch.chdir(tmp_path)
    assert convert(source, type="q8_0").outfile == Path("My-Model-1B-Q8_0.gguf")
    monkeypatch.chdir(source)
    assert convert(".", type="q8_0").outfile == Path("My-Model-1B-Q8_0.gguf")


@pytest.mark.slow
def test_both_dialects_of_config_give_the_same_file(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    old = convert(source, tmp_path / "old.gguf").outfile
    edit_json(
        source / "config.json",
        torch_dtype=None,
        dtype="bfloat16",
        rope_theta=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        head_dim=64,
    )
    new = convert(source, tmp_path / "new.gguf").outfile
    assert different_keys(read_header(old), read_header(new)) == []
    assert different_tensors(read_header(old), read_header(new)) == []


@pytest.mark.slow
def test_recommended_sampling_and_the_licence_are_kept(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny("Some-Model-7B-Instruct")
    edit_json(source / "generation_config.json", temperature=0.6, top_p=0.9, top_k=20, repetition_penalty=1.1)
    (source / "README.md").write_text("---\nlicense: apache-2.0\nlanguage:\n- en\n---\n# Some model\n")
    keys = read_header(convert(source, tmp_path / "x.gguf").outfile).metadata
    assert keys["general.name"] == "Some Model 7B Instruct"
    assert keys["general.license"] == "apache-2.0"
    assert keys["general.sampling.temp"] == pytest.approx(0.6)
    assert keys["general.sampling.top_k"] == 20
    assert keys["general.sampling.penalty_repeat"] == pytest.approx(1.1)


GREEDY = Sampling(temperature=0)


@pytest.mark.slow
def test_llama_cpp_computes_with_a_tiny_model(tiny: MakeTiny, tmp_path: Path) -> None:
    path = convert(tiny(layers=3), tmp_path / "x.gguf", type="Q4_K_M").outfile
    with Model.load(path, Options(n_ctx=64)) as model:
        reply = model.complete("Hello", sampling=GREEDY, max_tokens=4)
        "".join(reply)
        assert reply.stats is not None
        assert reply.stats.prompt_tokens > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_K_M"])
def test_the_rebuilt_default_model_still_knows_the_capital(
    rebuilt: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    path = convert(rebuilt("bf16"), tmp_path / "x.gguf", type=kind).outfile
    with Model.load(path, Options(n_ctx=512)) as model:
        chat = model.chat(sampling=GREEDY, max_tokens=24)
        assert "Paris" in chat.ask("Name the capital of France.")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
def test_real_weights_equal_what_llama_quantize_makes_of_them(
    rebuilt: Callable[[str], Path], tmp_path: Path, dtype: str
) -> None:
    half = "BF16" if dtype == "bf16" else "F16"
    between = convert(rebuilt(dtype), tmp_path / "between.gguf", type=half).outfile
    for kind in ("Q4_K_M", "Q8_0"):
        ours = convert(rebuilt(dtype), tmp_path / "ours.gguf", type=kind, force=True).outfile
        quantize_file(between, tmp_path / "theirs.gguf", kind)
        assert ours.read_bytes() == (tmp_path / "theirs.gguf").read_bytes()


@pytest.mark.slow
def test_the_rebuilt_tokenizer_is_that_of_the_default_model(
    rebuilt: Callable[[str], Path], smollm2: Path, tmp_path: Path
) -> None:
    path = convert(rebuilt("bf16"), tmp_path / "x.gguf", type="Q4_0").outfile
    ours, theirs = read_header(path), read_header(smollm2)
    for key in ("tokens", "token_type", "merges", "pre", "bos_token_id", "eos_token_id", "add_bos_token"):
        assert ours.get(f"tokenizer.ggml.{key}") == theirs.get(f"tokenizer.ggml.{key}"), key
    assert ours.get("tokenizer.chat_template") == theirs.get("tokenizer.chat_template")
    with open_vocab(path) as new, open_vocab(smollm2) as old:
        for text in [*corpus.TEXTS, *corpus.special_texts(["<|im_start|>", "<|im_end|>"])]:
            ids = [vocab.tokenize(text, add_special=True, parse_special=True) for vocab in (new, old)]
            assert ids[0] == ids[1], text


@pytest.mark.slow
def test_memory_is_bounded_by_slabs_not_by_the_model(rebuilt: Callable[[str], Path], tmp_path: Path) -> None:
    source = rebuilt("f32")
    command = [sys.executable, "-m", "localllm", "convert", str(source), "--outfile", str(tmp_path / "x.gguf")]
    cost = measure([*command, "--type", "Q8_0"], tmp_path / "x.gguf")
    assert (source / "model.safetensors").stat().st_size > 500e6
    assert cost.peak_anonymous < 250e6


@pytest.mark.parametrize("package", ["gguf", "tokenizers"])
def test_a_package_of_the_extra_that_is_missing_is_named(
    tiny: MakeTiny, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=rf"needs the package {package}\.\npip install 'localllm\[convert\]'"):
        preview(source)
