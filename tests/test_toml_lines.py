"""The lines of keys in TOML files."""

from __future__ import annotations

import pytest

from localllm.toml_lines import line_of

TEXT = """\
title = "x"
'quoted' = 1
dotted.key = 2

[[ model ]]
name = "a"
  [model.config]
  size = 1
[[model.file]]
name = "f"

[[model]]
[[model.file]]
name = "f"
[[model.file]]
name = "g"
[other]
name = "o"
"""


@pytest.mark.parametrize(
    ("path", "key", "line"),
    [
        ((), "title", 1),
        ((), "quoted", 2),
        ((), "dotted", 3),
        ((), "name", 0),
        (("model", 1), "name", 6),
        (("model", 1, "config"), "size", 8),
        (("model", 1, "file", 1), "name", 10),
        (("model", 2), "name", 12),
        (("model", 2, "file", 1), "name", 14),
        (("model", 2, "file", 2), "name", 16),
        (("model", 2, "file", 2), "size", 15),
        (("model", 3), "name", 0),
        (("other",), "name", 18),
    ],
)
def test_the_line_of_a_key_or_of_its_table(path: tuple[str | int, ...], key: str, line: int) -> None:
    assert line_of(TEXT, path, key) == line
