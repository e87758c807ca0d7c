"""Values of flags that are read from files."""

from __future__ import annotations

import argparse

import pytest

from localllm.cli.values import text_of_file


def test_a_file_in_the_home_of_a_user_who_is_not_there_cannot_be_read() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="~nobody-of-this-name/a cannot be read"):
        text_of_file("~nobody-of-this-name/a")
