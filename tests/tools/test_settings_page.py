"""docs/settings.md is what its tool makes of the settings that there are, and its example is right."""

from __future__ import annotations

import re

from settings_page import PATH, page

from localllm.settings.reading import parse
from localllm.settings.schema import GROUPS, KEYS


def test_the_page_is_of_these_settings() -> None:
    assert PATH.read_text(encoding="utf-8") == page(), "run tools/settings_page.py"


def test_the_example_has_no_mistake() -> None:
    example = re.search(r"```toml\n(.*?)```", page(), re.DOTALL)
    assert example
    assert parse(example[1], PATH).keys() == {"default_model", "models", "ctx", "temperature"}


def test_every_key_is_in_a_group_that_is_told() -> None:
    assert {key.group for key in KEYS.values()} == GROUPS.keys()
