"""What a model makes of texts that it only reads: the published embeddings, ranks by their formula, logits."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from localllm.cli.chat import open_model
from localllm.convert import convert
from localllm.errors import ContextFull, EngineDied, UnsupportedModel
from localllm.native import lib
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.tui.loader import Wanted
from tests.convert.golden import decoded, goldens, llama_outputs, weight, write_checkpoint
from tests.convert.minilm import sentences
from tests.runtime.conftest import GREEDY

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def encoder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """all-MiniLM-L6-v2, whose file says to take the mean."""
    path = convert(minilm, tmp_path_factory.mktemp("encoder") / "minilm.gguf", type="F16").outfile
    with Model.load(path) as model:
        yield model


def _tiny(name: str, folder: Path) -> Path:
    (golden,) = (golden for golden in goldens() if golden.name == name)
    return convert(write_checkpoint(golden, folder / name), folder / f"{name}.gguf", type="F32").outfile


@pytest.mark.slow
def test_embeddings_are_the_published_models(encoder: Model) -> None:
    known = sentences()
    vectors = encoder.embed([sentence.text for sentence in known])
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(known), 384)
    for vector, sentence in zip(vectors, known, strict=True):
        assert float(vector @ sentence.vector) > 0.999, sentence.text


@pytest.mark.slow
def test_a_batch_gives_what_each_text_gives_alone(encoder: Model) -> None:
    texts = [sentence.text for sentence in sentences()] * 9  # more than one batch of texts, and of tokens
    together = encoder.embed(texts)
    alone = np.concatenate([encoder.embed([text]) for text in texts[:10]])
    np.testing.assert_allclose(together[:10], alone, atol=2e-3)
    np.testing.assert_allclose(together[-10:], together[:10], atol=2e-3)


@pytest.mark.slow
def test_length_and_order_of_embeddings(encoder: Model) -> None:
    raw = encoder.embed(["A cat sits on the mat.", "Hello"], normalize=False)
    unit = encoder.embed(["A cat sits on the mat.", "Hello"])
    assert np.linalg.norm(unit, axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert np.linalg.norm(raw, axis=1) != pytest.approx([1, 1], abs=1e-2)
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), unit, atol=1e-5)
    assert encoder.embed([]).shape == (0, 384)


@pytest.mark.slow
def test_a_text_that_is_too_long_is_told_or_cut(encoder: Model) -> None:
    long = "A very long text. " * 300
    with pytest.raises(ContextFull, match=r"A text has 1,\d\d\d tokens, and the context holds 512") as caught:
        encoder.embed(["short", long])
    assert "truncate=True" in caught.value.hint
    cut = encoder.embed([long, long + "and longer"], truncate=True)
    np.testing.assert_allclose(cut[0], cut[1], atol=1e-5)


@pytest.mark.slow
def test_an_encoder_writes_nothing_and_says_so(encoder: Model) -> None:
    for ask in (lambda: encoder.complete("Hi"), lambda: encoder.logits([1])):
        with pytest.raises(UnsupportedModel, match="does not write text: it is an embedding model"):
            ask()
    with pytest.raises(UnsupportedModel, match="is no reranker"):
        encoder.rerank("a", ["b"])
    assert not encoder.info.writes
    with pytest.raises(UnsupportedModel, match="does not write text: it is an embedding model"):
        open_model(Wanted(encoder.info.path, Options()), lambda _: None)  # a chat says so at once
    assert encoder.context_used() == 0
    assert encoder.memory().kv_allocated == 0
    assert encoder.embed(["still"]).shape == (1, 384)


def test_one_text_is_no_list(model: Model) -> None:
    with pytest.raises(TypeError, match="a list of texts"):
        model.embed("text", pooling="mean")
    with pytest.raises(ValueError, match="'max' is no pooling: mean, cls, last"):
        model.embed(["text"], pooling="max")  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_model_that_writes_embeds_if_told_how(model: Model) -> None:
    with pytest.raises(UnsupportedModel, match="does not say how the vectors of its tokens become one") as caught:
        model.embed(["a text"])
    assert "pooling" in caught.value.hint
    texts = ["A cat sits on the mat.", "A kitten is on the rug.", "Interest rates rose by two points."]
    vectors = model.embed(texts, pooling="mean")
    assert vectors.shape == (3, 576)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert not np.allclose(vectors, model.embed(texts, pooling="last"), atol=1e-2)
    assert "Paris" in "".join(model.complete("The capital of France is", sampling=GREEDY, max_tokens=4))


def test_logits_are_those_that_replies_are_sampled_from(model: Model) -> None:
    tokens = model.tokenize("The capital of France is")
    logits = model.logits(tokens)
    assert logits.shape == (len(tokens), model._vocab.size)
    assert logits.dtype == np.float32
    reply = model.complete("The capital of France is", sampling=Sampling(temperature=0, logprobs=5), max_tokens=1)
    assert "".join(reply) == " Paris"
    wide = logits[-1].astype(np.float64)
    wanted = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
    for told in reply.logprobs[0].top:
        assert told.logprob == pytest.approx(wanted[told.token], abs=0.02)


@pytest.mark.slow
def test_logits_of_many_tokens_are_computed_in_parts(model: Model) -> None:
    tokens = (model.tokenize("The history of the city begins with a small market by the river. ") * 60)[:700]
    whole = model.logits(tokens)
    # A batch of another size is computed by other kernels, which round the activations otherwise.
    for row, other in ((whole[:20], model.logits(tokens[:20])), (whole[590:601], model.logits(tokens[:601])[590:])):
        assert np.all(np.sum(row * other, 1) / (np.linalg.norm(row, axis=1) * np.linalg.norm(other, axis=1)) > 0.995)


@pytest.mark.slow
def test_logits_equal_llama_cpps(tmp_path: Path) -> None:
    path = _tiny("llama", tmp_path)
    tokens = tuple(range(3, 43))
    with Model.load(path, Options(n_ctx=256, kv_type="f32", flash_attention=False)) as model:
        found = model.logits(tokens)
    expected = llama_outputs(path, tokens=tokens)
    np.testing.assert_allclose(found[-len(expected) :], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        ([], "nothing to read"),
        ([1, -1], "token -1 is not in"),
        ([49152], "token 49152 is not in the vocabulary of 49,152"),
    ],
)
def test_tokens_that_are_none(model: Model, tokens: list[int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        model.logits(tokens)


def test_more_tokens_than_the_context_holds(model: Model) -> None:
    with pytest.raises(ContextFull, match="1,000,000 tokens, and the context holds 1,024"):
        model.logits([1] * 1_000_000)


@pytest.mark.slow
def test_after_close_nothing_is_read(tmp_path: Path) -> None:
    model = Model.load(_tiny("llama", tmp_path), Options(n_ctx=256))
    assert model.embed(["a"], pooling="mean").shape[0] == 1
    model.close()
    for ask in (lambda: model.embed(["a"], pooling="mean"), lambda: model.logits([1]), lambda: model.tokenize("a")):
        with pytest.raises(EngineDied, match="closed"):
            ask()


@pytest.mark.slow
def test_closing_stops_what_is_being_read(smollm2: Path) -> None:
    model = Model.load(smollm2, Options(n_ctx=256))
    reading = threading.Event()
    errors: list[EngineDied] = []

    def read() -> None:
        texts = ["word " * 200] * 2000  # minutes of work
        model.embed(texts[:1], pooling="mean")
        reading.set()
        try:
            model.embed(texts, pooling="mean")
        except EngineDied as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert reading.wait(timeout=60)
    model.close()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert "closed" in errors[0].message


def _as_reranker(path: Path, target: Path, heads: dict[str, Floats]) -> None:
    """The same model with a head that ranks."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(target, "bert")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", "bert.pooling_type"):
            kind = field.types[0]
            writer.add_key_value(field.name, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None)
    writer.add_uint32("bert.pooling_type", 4)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    for name, values in heads.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.slow
def test_a_reranker_scores_each_pair(tmp_path: Path) -> None:
    plain = _tiny("bert", tmp_path)
    with Model.load(plain) as encoder:
        width = encoder.embed(["a"], pooling="cls").shape[1]
        pairs = [encoder._parts.reading()._pair("who", text) for text in ("me", "you and I", "them")]
        hidden = np.stack([_first(plain, tokens) for tokens in pairs])
    heads: dict[str, Floats] = {
        "cls.weight": weight("cls", (width, width)),
        "cls.bias": weight("cls.b", (width,)),
        "cls.output.weight": weight("out", (1, width)),
        "cls.output.bias": weight("out.b", (1,)),
    }
    _as_reranker(plain, tmp_path / "rank.gguf", heads)
    inner = np.tanh(hidden @ heads["cls.weight"].T + heads["cls.bias"])
    wanted = (inner @ heads["cls.output.weight"].T + heads["cls.output.bias"])[:, 0]
    with Model.load(tmp_path / "rank.gguf") as ranker:
        scores = ranker.rerank("who", ["me", "you and I", "them"])
        assert scores.shape == (3,)
        np.testing.assert_allclose(scores, wanted, atol=1e-3)
        with pytest.raises(UnsupportedModel):
            ranker.embed(["a"])


def _first(path: Path, tokens: list[int]) -> Any:
    """The hidden state of the first token."""
    with decoded(path, tokens, embeds=True) as (context, model):
        width = lib.llama().llama_model_n_embd(model.pointer)
        numbers = ctypes.cast(lib.llama().llama_get_embeddings_ith(context, 0), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(numbers, (width,)).copy()
