"""Files of a checkpoint are closed in the end, whatever goes wrong before anybody reads them; and which there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localllm.convert import convert, convert_adapter, prepare, prepare_adapter, verify_file
from localllm.convert.files import Files, LocalFiles
from localllm.errors import LocalLLMError
from tests.convert.helpers import MakeTiny


class Watched(LocalFiles):
    """Files that tell whether they were closed."""

    closed = False

    def close(self) -> None:
        super().close()
        self.closed = True


MISTAKES: dict[str, Callable[[Files, Path], object]] = {
    "type": lambda files, _: prepare(files, "Q9"),
    "type, converting": lambda files, folder: convert(files, folder / "x.gguf", type="Q9"),
    "target": lambda files, folder: convert(files, folder),
    "file to verify": lambda files, folder: verify_file(folder / "none.gguf", files),
    "adapter": lambda files, folder: prepare_adapter(folder / "none", files),
    "adapter's type": lambda files, folder: prepare_adapter(folder, files, "Q4_0"),
    "adapter's target": lambda files, folder: convert_adapter(folder, files, folder),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_files_are_closed_after_a_mistake(tiny: MakeTiny, tmp_path: Path, mistake: str) -> None:
    files = Watched(tiny())
    with pytest.raises(LocalLLMError):
        MISTAKES[mistake](files, tmp_path)
    assert files.closed


def test_files_are_closed_after_a_conversion(tiny: MakeTiny, tmp_path: Path) -> None:
    files = Watched(tiny())
    with prepare(files, "Q8_0"):
        assert not files.closed
    assert files.closed


def test_a_folder_that_may_not_be_read_is_passed_over(tiny: MakeTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny()
    for name in ("1_Pooling", "lost+found"):
        (folder / name).mkdir()
        (folder / name / "config.json").touch()
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        # Tests may run as root, who may read everything.
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return iter(list(listed(path)))

    monkeypatch.setattr(Path, "iterdir", iterdir)
    names = LocalFiles(folder).names()
    assert {"config.json", "1_Pooling/config.json"} < set(names)
    assert not [name for name in names if name.startswith("lost+found")]
