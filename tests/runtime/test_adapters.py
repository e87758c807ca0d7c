"""LoRA adapters beside a loaded model, with their scales; and the gap in a text that a model fills."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from localllm.cli import options
from localllm.cli.from_settings import fill
from localllm.cli.main import build_parser
from localllm.convert import convert, convert_adapter
from localllm.errors import BadModelFile, ModelNotFound, UnsupportedModel
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.process import ModelProcess
from tests.convert.golden import write_checkpoint
from tests.convert.test_adapter import golden, pair, write_adapter
from tests.runtime.conftest import GREEDY

TOKENS = tuple(range(3, 43))
EXACT = Options(n_ctx=256, kv_type="f32", flash_attention=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    return convert(write_checkpoint(golden("llama"), folder / "base"), folder / "base.gguf", type="F32").outfile


@pytest.fixture(scope="module")
def adapter(base: Path) -> Path:
    shapes = golden("llama").shapes
    names = [name for name in shapes if name.endswith(("q_proj.weight", "down_proj.weight"))]
    folder = write_adapter(base.parent / "adapter", {name: pair(name, shapes[name]) for name in names})
    return convert_adapter(folder, base.parent / "base", base.parent / "lora.gguf").outfile


def _logits(base: Path, *lora: tuple[str, float]) -> NDArray[np.float32]:
    with Model.load(base, Options(**{**vars(EXACT), "lora": lora})) as model:
        return model.logits(TOKENS)


def test_an_adapter_counts_as_its_scale_says(base: Path, adapter: Path) -> None:
    plain, once, half, gone = (
        _logits(base, *lora) for lora in ((), ((str(adapter), 1.0),), ((str(adapter), 0.5),), ((str(adapter), 0.0),))
    )
    twice_half = _logits(base, (str(adapter), 0.5), (str(adapter), 0.5))
    np.testing.assert_allclose(gone, plain, atol=1e-5)
    np.testing.assert_allclose(twice_half, once, atol=1e-4)
    assert np.abs(once - plain).max() > np.abs(half - plain).max() > 1e-2


def test_replies_go_through_the_adapter_and_the_plan_tells_its_size(base: Path, adapter: Path) -> None:
    with Model.load(base, Options(n_ctx=256, lora=((str(adapter), 3.0),))) as model:
        assert any(note.startswith("The adapter lora.gguf counts 3 and takes") for note in model.notes)
        said = list(model.complete("The capital", sampling=GREEDY, max_tokens=8))
        wanted = int(np.argmax(model.logits(model.tokenize("The capital"))[-1]))
        assert "".join(said).startswith(model._vocab.piece(wanted).decode("utf-8", "replace"))
    with Model.load(base, Options(n_ctx=256)) as model:
        assert list(model.complete("The capital", sampling=GREEDY, max_tokens=8)) != said


@pytest.mark.slow
def test_an_adapter_in_a_child_process(base: Path, adapter: Path) -> None:
    options = Options(n_ctx=256, lora=((str(adapter), 3.0),))
    with Model.load(base, options) as here, ModelProcess.load(base, options) as there:
        ours = "".join(here.complete("The capital", sampling=GREEDY, max_tokens=8))
        assert "".join(there.complete("The capital", sampling=GREEDY, max_tokens=8)) == ours
        assert there.notes == here.notes


@pytest.mark.slow
def test_what_is_no_adapter_of_this_model_is_refused(base: Path, adapter: Path, smollm2: Path) -> None:
    with pytest.raises(ModelNotFound):
        Model.load(base, Options(n_ctx=256, lora=((str(base) + "x", 1.0),)))
    with pytest.raises(BadModelFile, match="holds no LoRA adapter"):
        Model.load(base, Options(n_ctx=256, lora=((str(base), 1.0),)))
    with pytest.raises(UnsupportedModel, match=r"lora\.gguf does not fit"):
        Model.load(smollm2, Options(n_ctx=256, lora=((str(adapter), 1.0),)))
    with pytest.raises(ValueError, match="scale"):
        Options(lora=((str(adapter), float("nan")),))


@pytest.mark.slow
def test_an_adapter_of_another_architecture_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = convert(write_checkpoint(golden("qwen2"), tmp_path / "qwen2"), tmp_path / "qwen2.gguf", type="F32").outfile
    with pytest.raises(UnsupportedModel, match=r"lora\.gguf is an adapter for llama, and qwen2\.gguf is qwen2"):
        Model.load(other, Options(n_ctx=256, lora=((str(adapter), 1.0),)))


def test_the_flag() -> None:
    words = ["run", "Hi", "--lora", "a.gguf", "--lora", "b=c.gguf=0.5", "--lora", "d=e.gguf"]
    given = options.engine_options(fill(build_parser().parse_args(words))).lora
    assert given == (("a.gguf", 1.0), ("b=c.gguf", 0.5), ("d=e.gguf", 1.0))


@pytest.mark.slow
def test_the_middle_is_filled(tmp_path: Path) -> None:
    folder = write_checkpoint(golden("llama"), tmp_path / "code")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    unused = list(tokenizer["model"]["vocab"])[-3:]
    tokenizer["model"]["merges"] = [merge for merge in tokenizer["model"]["merges"] if "".join(merge) not in unused]
    for text, old in zip(("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"), unused, strict=True):
        number = tokenizer["model"]["vocab"].pop(old)
        tokenizer["model"]["vocab"][text] = number
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        tokenizer["added_tokens"].append({"id": number, "content": text, **flags})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    path = convert(folder, tmp_path / "code.gguf", type="F32").outfile
    with Model.load(path, EXACT) as model:
        tokens = model.tokenize("<|fim_prefix|>def add(a, b):\n    <|fim_suffix|>\n<|fim_middle|>")
        reply = model.fill("def add(a, b):\n    ", "\n", sampling=GREEDY, max_tokens=1)
        text = "".join(reply)
        assert reply.stats is not None
        assert reply.stats.prompt_tokens == len(tokens)
        assert len(tokens) > 3 + len("def")
        piece = model._vocab.piece(int(np.argmax(model.logits(tokens)[-1])))
        assert text == piece.decode("utf-8", "ignore")


def test_a_model_without_tokens_for_it_fills_nothing(model: Model) -> None:
    with pytest.raises(UnsupportedModel, match="not trained to fill in the middle"):
        model.fill("a", "b")
