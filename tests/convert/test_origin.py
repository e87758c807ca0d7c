"""Where the checkpoint of a file is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.convert.origin import Origin, find_here

ORIGIN = Origin("tiny", "org/tiny", "0" * 40)


def test_the_checkpoint_is_found_in_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", "~/hf")
    folder = tmp_path / "hf" / "hub" / "models--org--tiny" / "snapshots" / ORIGIN.commit
    folder.mkdir(parents=True)
    assert find_here(ORIGIN, []) is None
    (folder / "config.json").write_text("{}")
    assert find_here(ORIGIN, []) == folder


def test_a_cache_in_the_home_of_a_user_who_is_not_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", "~nobody-of-this-name")
    assert find_here(ORIGIN, []) is None
