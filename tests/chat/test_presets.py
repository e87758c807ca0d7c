"""Named settings on disk: kept, read, and never written over when they are damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from localllm.chat import presets
from localllm.chat.presets import Preset
from localllm.errors import BadSettings

PRECISE = Preset('Say "no" if\nnot sure.', {"temperature": 0.2}, {"n_ctx": 16384})


def test_presets_are_kept_beside_each_other_and_what_a_person_wrote_stays(tmp_path: Path) -> None:
    path = tmp_path / "home" / "presets.toml"
    assert presets.read(path) == {}
    presets.keep(path, "precise", PRECISE)
    path.write_text("# mine\n" + path.read_text())
    presets.keep(path, " wild & free ", Preset(None, {"temperature": 1.5}))
    assert presets.read(path) == {"precise": PRECISE, "wild & free": Preset(None, {"temperature": 1.5})}
    presets.keep(path, "precise", Preset("Short."))
    assert presets.read(path)["precise"] == Preset("Short.")
    assert path.read_text().startswith("# mine\n")
    assert {file.name for file in path.parent.iterdir()} == {"presets.toml", ".presets.toml.lock"}


SAVER = """
import sys
from pathlib import Path
from localllm.chat import presets
for number in range(20):
    presets.keep(Path(sys.argv[1]), f"{sys.argv[2]} {number}", presets.Preset("Short."))
"""


def test_of_two_windows_that_keep_presets_none_loses_what_the_other_kept(tmp_path: Path) -> None:
    path = tmp_path / "presets.toml"
    savers = [subprocess.Popen([sys.executable, "-c", SAVER, str(path), name]) for name in ("one", "two")]
    assert [saver.wait() for saver in savers] == [0, 0]
    assert len(presets.read(path)) == 40


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[precise", "cannot be read"),
        ("precise = 1", "precise is no table"),
        ("[precise]\nsystem = 3", "wrong system"),
        ("[precise]\ntemperature = 3", "wrong temperature"),
    ],
)
def test_a_file_with_a_mistake_is_told_and_left_as_it_is(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "presets.toml"
    path.write_text(text)
    with pytest.raises(BadSettings, match=said):
        presets.read(path)
    with pytest.raises(BadSettings, match=said):
        presets.keep(path, "other", PRECISE)
    assert path.read_text() == text


def test_a_preset_needs_a_name_and_a_place(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="needs a name"):
        presets.keep(tmp_path / "presets.toml", "  ", PRECISE)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSettings, match="cannot be"):
        presets.keep(tmp_path / "file" / "presets.toml", "a", PRECISE)
