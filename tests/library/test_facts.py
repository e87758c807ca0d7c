"""What is remembered of headers, and what is on this machine as a whole."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from localllm import gguf_file, paths, small_files
from localllm.convert.header import text, u16, u32
from localllm.gguf_file import Header
from localllm.library import inventory as inventory_module
from localllm.library.facts import Facts, facts_of
from localllm.library.inventory import bytes_on_disk, inventory
from localllm.library.places import stored_models
from localllm.runtime import last_used
from tests.library.stores import gguf, put, put_hub, put_ollama


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The headers that were read."""
    seen: list[Path] = []
    read = gguf_file.read_header

    def noting(path: Path) -> Header:
        seen.append(path)
        return read(path)

    monkeypatch.setattr(gguf_file, "read_header", noting)
    return seen


def facts() -> list[Facts]:
    return facts_of(list(stored_models()))


def test_what_a_header_says(machine: Path) -> None:
    put(machine / "models" / "m.gguf")
    (found,) = facts()
    assert (found.architecture, found.quantization, found.parameters, found.context) == ("llama", "Q4_K_M", 1024, 4096)
    kv_cache = 4096 * 2 * 2 * (2 * 64) * 2
    assert found.needed > kv_cache + 3 * 144 + 1024
    assert found.problem == ""


def test_a_file_without_a_chat_template_is_told_from_one_with_it(machine: Path) -> None:
    put(machine / "models" / "chat.gguf")
    put(machine / "models" / "text.gguf", gguf("text", tokenizer__chat_template=text("")))
    assert [found.has_template for found in facts()] == [True, False]
    assert [found.has_template for found in facts()] == [True, False], "as it is remembered"


def test_a_header_is_read_once_until_the_file_changes(machine: Path, opened: list[Path]) -> None:
    file = put(machine / "models" / "m.gguf")
    other = put(machine / "models" / "n.gguf")
    first = facts()
    assert opened == [file, other]
    assert facts() == first
    assert len(opened) == 2
    file.write_bytes(gguf("m", llama__context_length=u32(2048)))
    assert [found.context for found in facts()] == [2048, 4096]
    assert opened[2:] == [file]
    os.utime(other, (1, 1))
    facts()
    assert opened[3:] == [other]


def test_a_split_model_counts_as_a_whole_and_says_what_is_missing(machine: Path) -> None:
    names = [f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, name in enumerate(names):
        put(machine / "models" / name, gguf(f"part {number}", split__count=u16(2), split__no=u16(number)))
    assert [found.parameters for found in facts()] == [2 * 1024]
    (machine / "models" / names[1]).unlink()
    assert [found.problem for found in facts()] == ["1 of its 2 parts are here"]


def test_what_is_wrong_with_a_file_is_remembered_too(machine: Path, opened: list[Path]) -> None:
    put(machine / "models" / "cut.gguf", gguf()[:-100])
    put(machine / "models" / "text.gguf", b"no model")
    cut, other = facts()
    assert cut.problem.startswith("is cut short")
    assert "is not a GGUF file" in other.problem
    facts()
    assert len(opened) == 2


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"format": 2, "files": {"x": [1]}}', b'{"format": 99, "files": 1}', b"[]"]
)
def test_a_damaged_memory_is_as_good_as_none(machine: Path, content: bytes) -> None:
    file = put(machine / "models" / "m.gguf")
    put(paths.headers_file(), content)
    assert facts()[0].architecture == "llama"
    assert list(json.loads(paths.headers_file().read_bytes())["files"]) == [str(file)]


def test_entries_that_are_not_ours_are_left_out(machine: Path, opened: list[Path]) -> None:
    file = put(machine / "models" / "m.gguf")
    facts()
    document = small_files.read_json(paths.headers_file())
    document["files"][str(file)][1]["context"] = "many"
    small_files.keep_json(paths.headers_file(), document)
    assert facts()[0].context == 4096


def test_what_another_process_remembered_meanwhile_is_kept_and_what_is_gone_is_forgotten(machine: Path) -> None:
    here, gone = put(machine / "models" / "here.gguf"), put(machine / "models" / "gone.gguf")
    facts()
    gone.unlink()
    new = put(machine / "models" / "new.gguf")
    facts_of([model for model in stored_models() if model.path == new])
    assert set(small_files.read_json(paths.headers_file())["files"]) == {str(here), str(new)}


def test_several_that_write_at_once_leave_a_whole_file(machine: Path) -> None:
    for number in range(8):
        put(machine / "models" / f"{number}.gguf")
    models = list(stored_models())
    threads = [threading.Thread(target=facts_of, args=([model],)) for model in models for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert small_files.read_json(paths.headers_file())["format"] == 2
    assert [path.name for path in paths.home().iterdir() if path.name.endswith(".part")] == []


def test_a_home_that_cannot_be_written_is_no_error(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine / "models" / "m.gguf")
    monkeypatch.setenv("LOCALLLM_HOME", str(put(machine / "file", b"")))
    assert facts()[0].architecture == "llama"
    last_used.note(machine / "models" / "m.gguf")
    assert last_used.read() == {}


def test_the_inventory(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(machine / "models" / "mine.gguf")
    put_hub(machine / "hub", "org/m", "m-Q8_0.gguf", gguf("hub"))
    put_ollama(machine / ".ollama" / "models", "llama:1b", gguf("ollama"))
    last_used.note(file)
    rows = inventory()
    assert [row.name for row in rows] == ["mine", "org/m:Q8_0", "llama:1b"]
    assert [row.used > 0 for row in rows] == [True, False, False]
    assert [row.fits for row in rows] == [True] * 3
    assert [row.name for row in inventory(["ORG"])] == ["org/m:Q8_0"]
    monkeypatch.setattr(inventory_module, "free_memory", lambda: 1)
    assert [row.fits for row in inventory()] == [False] * 3


def test_bytes_that_are_shared_count_once(machine: Path) -> None:
    file = put(machine / "models" / "a.gguf")
    (machine / "models" / "b.gguf").symlink_to(file)
    (machine / "models" / "c.gguf").hardlink_to(file)
    models = list(stored_models())
    assert len(models) == 3
    assert bytes_on_disk(models) == file.stat().st_size
