"""Models from elsewhere get a name here: what is made, what is refused, and that nothing is lost or left behind."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from localllm.convert.header import text, u16
from localllm.errors import BadModelFile, BadOutput, LocalLLMError, ModelNotFound
from localllm.library import arriving, resolve
from localllm.library.importing import plan_imports
from tests.library.stores import gguf, put, put_hub, put_ollama


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def refused(kind: type[LocalLLMError], *names: str, **options: str) -> LocalLLMError:
    with pytest.raises(kind) as caught:
        plan_imports(names, name=options.get("name", ""), move="move" in options)
    return caught.value


@pytest.fixture
def other_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can have a second name, as on another disk."""

    def link(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)


def test_a_file_gets_a_second_name_and_no_copy(machine: Path) -> None:
    file = put(machine / "downloads" / "m-Q4_K_M.gguf")
    (made,) = arriving.link(plan_imports([str(file)])).items()
    assert made == (machine / "models" / "m-Q4_K_M.gguf", "hard link")
    assert made[0].samefile(file)
    assert resolve("m-Q4_K_M") == made[0]
    file.unlink()
    assert made[0].read_bytes() == gguf("m-Q4_K_M")


def test_again_is_no_error_and_changes_nothing(machine: Path) -> None:
    file = put(machine / "m.gguf")
    arriving.link(plan_imports([str(file)]))
    assert list(arriving.link(plan_imports([str(file)])).values()) == ["there already"]
    assert files(machine / "models") == {"m.gguf"}


def test_named_twice_it_is_imported_once(machine: Path) -> None:
    file = put(machine / "m.gguf")
    assert list(arriving.copy(plan_imports([str(file), str(file.parent / "." / "m.gguf")])).values()) == ["copy"]


def test_from_another_disk_it_is_a_link(machine: Path, other_disk: None) -> None:
    file = put(machine / "m.gguf")
    (made,) = arriving.link(plan_imports([str(file)])).items()
    assert made == (machine / "models" / "m.gguf", "symbolic link")
    assert made[0].is_symlink()
    assert made[0].resolve() == file


def test_a_folder_with_all_its_models(machine: Path) -> None:
    for name in ("a.gguf", "deep/b.gguf", "mmproj-a.gguf", ".hidden.gguf", "c.gguf.part", "readme.txt"):
        put(machine / "old" / name)
    arriving.link(plan_imports([str(machine / "old")]))
    assert files(machine / "models") == {"a.gguf", "b.gguf"}


def test_all_parts_under_another_name(machine: Path) -> None:
    for number in range(2):
        content = gguf(f"part {number}", split__count=u16(2), split__no=u16(number))
        put(machine / f"big-0000{number + 1}-of-00002.gguf", content)
    arriving.link(plan_imports([str(machine / "big-00002-of-00002.gguf")], name="mine"))
    assert files(machine / "models") == {"mine-00001-of-00002.gguf", "mine-00002-of-00002.gguf"}
    assert resolve("mine").name == "mine-00001-of-00002.gguf"


def test_a_missing_part(machine: Path) -> None:
    file = put(machine / "big-00001-of-00002.gguf", gguf(split__count=u16(2)))
    assert "big-00002-of-00002.gguf" in refused(ModelNotFound, str(file)).message


def test_a_model_of_ollama_by_its_name(machine: Path) -> None:
    blob = put_ollama(machine / ".ollama" / "models", "llama9.9:1b", gguf())
    arriving.link(plan_imports(["llama9.9:1b"]))
    assert resolve("llama9.9-1b").samefile(blob)
    arriving.link(plan_imports(["llama9.9:1b"], name="mine.gguf"))
    assert resolve("mine").samefile(blob)


def test_a_file_of_the_hub_cache_does_not_depend_on_its_snapshot(machine: Path, other_disk: None) -> None:
    file = put_hub(machine / "hub", "org/m", "m-Q8_0.gguf", gguf())
    arriving.link(plan_imports([str(file)], name="mine"))
    assert (machine / "models" / "mine.gguf").readlink() == file.resolve()


def test_what_is_in_a_models_folder_is_there_already(machine: Path) -> None:
    file = put(machine / "models" / "deep" / "m.gguf")
    assert arriving.link(plan_imports([str(file)])) == {file: "there already"}
    assert arriving.move(plan_imports([str(file)], move=True)) == {file: "moved"}
    assert files(machine / "models") == {"deep/m.gguf"}


def test_copy(machine: Path) -> None:
    file = put(machine / "m.gguf")
    heard: list[tuple[int, int]] = []
    arriving.copy(plan_imports([str(file)]), lambda done, total: heard.append((done, total)))
    copied = machine / "models" / "m.gguf"
    assert copied.read_bytes() == file.read_bytes()
    assert not copied.samefile(file)
    assert heard[-1] == (file.stat().st_size, file.stat().st_size)


@pytest.mark.parametrize("disk", ["same", "other"])
def test_move(machine: Path, request: pytest.FixtureRequest, disk: str) -> None:
    if disk == "other":
        request.getfixturevalue("other_disk")
    paths = [put(machine / "old" / name) for name in ("a.gguf", "b.gguf")]
    arriving.move(plan_imports([str(machine / "old")], move=True))
    assert not any(path.exists() for path in paths)
    assert (machine / "models" / "a.gguf").read_bytes() == gguf("a")
    assert files(machine / "models") == {"a.gguf", "b.gguf"}


def test_a_second_name_of_what_is_there_goes_when_moved(machine: Path) -> None:
    file = put(machine / "m.gguf")
    (target,) = arriving.link(plan_imports([str(file)]))
    assert arriving.move(plan_imports([str(file)], move=True)) == {target: "moved"}
    assert not file.exists()
    assert target.read_bytes() == gguf("m")


@pytest.mark.parametrize("names", [1, 2])
def test_a_folder_under_two_paths_keeps_its_file_when_moved(
    machine: Path, monkeypatch: pytest.MonkeyPatch, names: int
) -> None:
    target = put(machine / "models" / "m.gguf")
    if names == 2:
        os.link(target, machine / "third")
    (machine / "again").symlink_to(machine / "models")
    monkeypatch.setattr(Path, "resolve", lambda path, strict=False: path.absolute())  # of a bind mount it tells nothing
    source = machine / "again" / "m.gguf"
    made = arriving.move(plan_imports([str(source)], move=True))
    assert made == {target: f"there already, {source} stays: it may be the only copy"}
    assert target.read_bytes() == gguf("m")


@pytest.mark.parametrize("names", [1, 2])
def test_what_a_link_in_the_models_folder_leads_to_is_not_moved_away(machine: Path, names: int) -> None:
    file = put(machine / "m.gguf")
    if names == 2:
        os.link(file, machine / "third")
    target = machine / "models" / "m.gguf"
    target.parent.mkdir()
    target.symlink_to(file)
    assert "stays" in arriving.move(plan_imports([str(file)], move=True))[target]
    assert target.read_bytes() == gguf("m")


def test_no_room_is_said_before_the_first_byte(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(machine / "m.gguf")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 99, 1))
    with pytest.raises(BadOutput, match=f"needs {file.stat().st_size:,} bytes.* has 1 left"):
        arriving.copy(plan_imports([str(file)]))
    assert not (machine / "models").exists()


@pytest.mark.parametrize("how", ["link", "copy", "move"])
def test_what_fails_in_the_middle_leaves_nothing_behind(
    machine: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    old = [put(machine / "old" / name) for name in ("a.gguf", "b.gguf")]
    kept = put(machine / "models" / "kept.gguf")
    jobs = plan_imports([str(machine / "old")], move=how == "move")
    real = os.link

    def link(source: Path, target: Path) -> None:
        if target.name == "b.gguf":
            raise FileExistsError(17, "File exists", str(target))
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(BadOutput, match=r"b\.gguf cannot be made: File exists"):
        getattr(arriving, how)(jobs)
    assert files(machine / "models") == {"kept.gguf"}
    assert all(path.exists() for path in [*old, kept])


def test_a_copy_that_is_stopped_leaves_nothing_behind(machine: Path) -> None:
    file = put(machine / "m.gguf")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        arriving.copy(plan_imports([str(file)]), stop)
    assert files(machine / "models") == set()


def test_a_file_that_changes_while_it_is_copied(machine: Path) -> None:
    file = put(machine / "m.gguf")
    with pytest.raises(BadOutput, match="changed while it was copied"):
        arriving.copy(plan_imports([str(file)]), lambda done, total: os.utime(file, (1, 1)))
    assert files(machine / "models") == set()


def test_another_file_is_never_written_over(machine: Path) -> None:
    file = put(machine / "m.gguf")
    there = put(machine / "models" / "m.gguf", b"precious")
    error = refused(BadOutput, str(file))
    assert "exists, and is another file" in error.message
    assert "--name" in error.hint
    dangling = machine / "models" / "n.gguf"
    dangling.symlink_to(machine / "unplugged")
    assert "exists" in refused(BadOutput, str(file), name="n").message
    assert there.read_bytes() == b"precious"


def test_two_that_would_have_one_name(machine: Path) -> None:
    put(machine / "old" / "a" / "m.gguf")
    put(machine / "old" / "b" / "m.gguf", gguf("other"))
    assert "would both be m.gguf" in refused(BadOutput, str(machine / "old")).message
    assert not (machine / "models").exists()


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "/etc/x", "a\\b", ".gguf"])
def test_a_name_that_leads_out_of_the_models_folder(machine: Path, name: str) -> None:
    file = put(machine / "m.gguf")
    assert "would lead out of the models folder" in refused(BadOutput, str(file), name=name).message
    assert files(machine) == {"m.gguf"}


@pytest.mark.parametrize("name", [".hidden", "mmproj-x", "x-00001-of-00002", "a\nb", "x" * 300])
def test_a_name_under_which_nothing_would_be_found(machine: Path, name: str) -> None:
    refused(BadOutput, str(put(machine / "m.gguf")), name=name)
    assert files(machine) == {"m.gguf"}


def test_one_name_for_several(machine: Path) -> None:
    names = [str(put(machine / name)) for name in ("a.gguf", "b.gguf")]
    assert "for 2 models" in refused(BadOutput, *names, name="x").message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello", "is not a GGUF file"),
        (b"", "is not a GGUF file"),
        (gguf()[:-200], "is cut short"),
        (gguf(general__type=text("adapter")), "of the type adapter"),
        (gguf(general__architecture=text("clip")), "of the type mmproj"),
        (gguf(general__architecture=text("")), "holds no model"),
    ],
)
def test_what_is_no_model(machine: Path, content: bytes, said: str) -> None:
    put(machine / "old" / "a.gguf")
    put(machine / "old" / "b.gguf", content)
    assert said in refused(BadModelFile, str(machine / "old")).message
    assert files(machine) == {"old/a.gguf", "old/b.gguf"}


def test_what_is_not_there(machine: Path) -> None:
    put(machine / "model-q4_k_m.gguf")
    assert "model-q4_k_m.gguf" in refused(ModelNotFound, str(machine / "model-q4_k.gguf")).hint
    (machine / "empty").mkdir()
    assert "without a GGUF file" in refused(ModelNotFound, str(machine / "empty")).message
    put(machine / "checkpoint" / "config.json", b"{}")
    assert "localllm convert" in refused(ModelNotFound, str(machine / "checkpoint")).hint


def test_stores_of_other_programs_are_not_moved(machine: Path) -> None:
    studio = put(machine / ".lmstudio" / "models" / "org" / "m" / "m.gguf")
    error = refused(BadOutput, str(studio), move="yes")
    assert "belongs to LM Studio" in error.message
    assert "without --move" in error.hint
    assert studio.exists()


def test_a_link_is_not_moved(machine: Path) -> None:
    file = put(machine / "m.gguf")
    link = machine / "link.gguf"
    link.symlink_to(file)
    assert str(file) in refused(BadOutput, str(link), move="yes").hint


def test_a_models_folder_that_cannot_be_made(machine: Path) -> None:
    jobs = plan_imports([str(put(machine / "m.gguf"))])
    put(machine / "models", b"a file")
    with pytest.raises(BadOutput, match="cannot be made"):
        arriving.link(jobs)


def test_the_home_of_a_user_who_is_not_there_is_no_model() -> None:
    assert "~nobody-of-this-name/a.gguf" in refused(ModelNotFound, "~nobody-of-this-name/a.gguf").message
