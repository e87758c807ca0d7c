"""Reading GGUF headers: the real default model, small files made here, and files that lie."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from localllm.convert.header import KeyValue, f32s, flag, i32s, lay_out, text, texts, u32
from localllm.errors import BadModelFile, LocalLLMError, ModelNotFound
from localllm.gguf_file import Array, read_header, read_start

KEYS: dict[str, KeyValue] = {
    "general.architecture": text("llama"),
    "general.file_type": u32(15),
    "llama.block_count": u32(2),
    "llama.attention.head_count_kv": i32s([2, 4]),
    "tokenizer.ggml.tokens": texts(["<s>", "é", "🚀"]),
    "tokenizer.ggml.scores": f32s([0.0, -1.0, 0.5]),
    "tokenizer.ggml.add_bos_token": flag(True),
}
TENSORS = [("token_embd.weight", (256, 3), "Q4_K"), ("output_norm.weight", (250,), "F32")]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A small whole GGUF with a padded last tensor."""
    layout = lay_out(KEYS, TENSORS)
    path = tmp_path / "good.gguf"
    path.write_bytes(layout.header + bytes(layout.file_bytes - len(layout.header)))
    return path


def _changed(good: Path, old: bytes, new: bytes) -> Path:
    data = good.read_bytes()
    assert data.count(old) == 1
    good.write_bytes(data.replace(old, new))
    return good


def _string(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def test_the_default_model(smollm2: Path) -> None:
    header = read_header(smollm2)
    assert (header.architecture, header.quantization) == ("llama", "Q4_1")
    assert (header.parameters, len(header.tensors)) == (134_515_008, 272)
    assert (header.n_layer, header.context_length) == (30, 8192)
    assert header.get("{arch}.embedding_length") == 576
    last = max(header.tensors, key=lambda tensor: tensor.offset)
    assert last.offset + last.n_bytes <= header.file_bytes == smollm2.stat().st_size
    tokens = header.get("tokenizer.ggml.tokens")
    assert isinstance(tokens, Array)
    assert len(tokens) == 49152
    assert tokens[:3] == ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def test_a_small_file_comes_back_as_it_was_written(good: Path) -> None:
    header = read_header(good)
    assert header.metadata["tokenizer.ggml.tokens"] == ["<s>", "é", "🚀"]
    assert header.metadata["tokenizer.ggml.scores"] == [0.0, -1.0, 0.5]
    assert header.metadata["tokenizer.ggml.add_bos_token"] is True
    assert header.integer("llama.attention.head_count_kv") == 4
    assert header.quantization == "Q4_K_M"
    assert header.name == "good"
    assert [(t.name, t.shape, t.type_name, t.n_bytes) for t in header.tensors] == [
        ("token_embd.weight", (256, 3), "Q4_K", 3 * 144),
        ("output_norm.weight", (250,), "F32", 1000),
    ]
    assert all(tensor.offset % 32 == 0 for tensor in header.tensors)


def test_the_first_bytes_tell_the_keys_that_are_whole(good: Path) -> None:
    header, data = read_header(good), good.read_bytes()
    cut = header.spans["tokenizer.ggml.tokens"][1] - 1
    start = read_start(good.name, data[:cut])
    assert start.metadata == {key: value for key, value in header.metadata.items() if not key.startswith("tokenizer")}
    assert (start.n_layer, start.integer("{arch}.attention.head_count_kv"), start.tensors) == (2, 4, ())
    with pytest.raises(BadModelFile, match="starts with b'<htm'"):
        read_start("page", b"<html>" * 100)


def test_without_a_file_type_the_most_common_type_names_the_quantization(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    layout = lay_out({"general.architecture": text("llama")}, TENSORS)
    path.write_bytes(layout.header + bytes(layout.file_bytes - len(layout.header)))
    assert read_header(path).quantization == "Q4_K"


def test_an_array_is_not_decoded_before_it_is_read(smollm2: Path) -> None:
    tokens = read_header(smollm2).get("tokenizer.ggml.tokens")
    assert isinstance(tokens, Array)
    assert "_values" not in vars(tokens)
    assert tokens[0] == "<|endoftext|>"
    assert "_values" in vars(tokens)


def test_without_its_vocabulary_a_header_says_all_else(smollm2: Path) -> None:
    whole = read_header(smollm2)
    small = whole.without_vocabulary()
    gone = set(whole.metadata) - set(small.metadata)
    assert gone == {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"}
    assert (small.tensors, small.context_length) == (whole.tensors, whole.context_length)


def test_a_value_of_another_kind_is_not_taken_for_a_number(good: Path) -> None:
    with pytest.raises(BadModelFile, match=r"general\.architecture is 'llama', not a number"):
        read_header(good).integer("general.architecture")


def test_a_missing_file_names_the_nearest(good: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"Nearest: good\.gguf"):
        read_header(good.with_name("godo.gguf"))


def test_a_folder_with_a_checkpoint_hints_at_convert(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadModelFile, match="localllm convert"):
        read_header(tmp_path)


def test_a_text_file_is_not_a_gguf(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello world")
    with pytest.raises(BadModelFile, match=r"not a GGUF file: it starts with b'hell'.*byte 0"):
        read_header(path)


def test_an_empty_file_is_not_a_gguf(tmp_path: Path) -> None:
    path = tmp_path / "empty.gguf"
    path.touch()
    with pytest.raises(BadModelFile, match="it has 0 bytes"):
        read_header(path)


@pytest.mark.parametrize(
    ("version", "says"),
    [(1, "version 1 at byte 4"), (4, "version 4 at byte 4"), (0x03000000, "big-endian")],
)
def test_other_versions_are_refused(good: Path, version: int, says: str) -> None:
    _changed(good, b"GGUF" + struct.pack("<I", 3), b"GGUF" + struct.pack("<I", version))
    with pytest.raises(BadModelFile, match=says):
        read_header(good)


def test_a_truncated_file_says_how_much_is_missing_and_which_tensor_is_cut(good: Path) -> None:
    with good.open("r+b") as file:
        file.truncate(good.stat().st_size - 500)
    with pytest.raises(BadModelFile, match=r"cut short: 476 bytes are missing.*output_norm\.weight"):
        read_header(good)


def test_only_the_padding_missing_is_no_fault(good: Path) -> None:
    with good.open("r+b") as file:
        file.truncate(good.stat().st_size - 24)
    assert len(read_header(good).tensors) == 2


def test_a_header_cut_anywhere_is_named_bad(good: Path) -> None:
    data = good.read_bytes()
    end = read_header(good).data_offset
    for length in range(0, end, 7):
        good.write_bytes(data[:length])
        with pytest.raises(BadModelFile):
            read_header(good)


@pytest.mark.slow
def test_flipped_bytes_never_surprise(good: Path) -> None:
    data, end = good.read_bytes(), read_header(good).data_offset
    generator = random.Random(1)
    refused = 0
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(generator.randint(1, 4)):
            changed[generator.randrange(end)] = generator.randrange(256)
        good.write_bytes(changed)
        try:
            header = read_header(good)
            [list(value) for value in header.metadata.values() if isinstance(value, Array)]
        except LocalLLMError:
            refused += 1
    assert refused > 1000


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (8, 1 << 62, "number of tensors at byte 8"),
        (8, -1, "number of tensors at byte 8: -1"),
        (16, 1 << 40, "number of keys at byte 16"),
        (24, 1 << 60, "length of name of key 0"),
    ],
)
def test_absurd_counts_are_refused_at_once(good: Path, at: int, value: int, says: str) -> None:
    data = bytearray(good.read_bytes())
    data[at : at + 8] = struct.pack("<q", value)
    good.write_bytes(data)
    with pytest.raises(BadModelFile, match=says):
        read_header(good)


def test_an_absurd_array_is_refused_before_it_is_read(good: Path) -> None:
    _changed(good, struct.pack("<iiQ", 9, 8, 3), struct.pack("<iiQ", 9, 8, 1 << 60))
    with pytest.raises(BadModelFile, match=r"length of tokenizer\.ggml\.tokens.*not plausible"):
        read_header(good)


def test_a_huge_sparse_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<Iqq", 3, 0, 1) + _string("k") + struct.pack("<iQ", 8, 1 << 33))
        file.truncate(1 << 34)
    with pytest.raises(BadModelFile, match="more than 128 MiB is not plausible"):
        read_header(path)


def test_a_nested_array_is_refused(good: Path) -> None:
    _changed(good, struct.pack("<iiQ", 9, 5, 2), struct.pack("<iiQ", 9, 9, 2))
    with pytest.raises(BadModelFile, match="9 is not a type for arrays"):
        read_header(good)


def test_a_key_twice_is_refused(good: Path) -> None:
    _changed(good, _string("general.file_type")[8:], b"llama.block_count")
    with pytest.raises(BadModelFile, match=r"'llama\.block_count' is there twice"):
        read_header(good)


def test_a_tensor_twice_is_refused(tmp_path: Path) -> None:
    layout = lay_out({}, [TENSORS[0], TENSORS[0]])
    path = tmp_path / "twice.gguf"
    path.write_bytes(layout.header + bytes(layout.file_bytes))
    with pytest.raises(BadModelFile, match=r"'token_embd\.weight' is there twice"):
        read_header(path)


def test_rows_that_do_not_fill_blocks_are_refused(tmp_path: Path) -> None:
    layout = lay_out({}, [("a.weight", (250, 2), "Q4_K")])
    path = tmp_path / "rows.gguf"
    path.write_bytes(layout.header + bytes(1 << 12))
    with pytest.raises(BadModelFile, match="rows of 250 do not fill Q4_K blocks of 256"):
        read_header(path)


def test_a_gap_between_tensors_is_refused(good: Path) -> None:
    info = _string("output_norm.weight") + struct.pack("<IqiQ", 1, 250, 0, 448)
    _changed(good, info, info[:-8] + struct.pack("<Q", 480))
    with pytest.raises(BadModelFile, match=r"offset of output_norm\.weight.*480 where 448 comes next"):
        read_header(good)


def test_an_unknown_tensor_type_is_refused(good: Path) -> None:
    info = _string("output_norm.weight") + struct.pack("<IqiQ", 1, 250, 0, 448)
    _changed(good, info, info[:-12] + struct.pack("<iQ", 777, 448))
    with pytest.raises(BadModelFile, match="777 is not a tensor type"):
        read_header(good)


def test_an_alignment_that_is_no_power_of_two_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(lay_out({"general.alignment": u32(48)}, []).header)
    with pytest.raises(BadModelFile, match="48 is not a power of two"):
        read_header(path)
