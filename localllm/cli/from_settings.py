"""Flags whose default is a setting: they say so when they are declared, and the file is read only when a command runs.

That keeps `--help` fast, and lets a flag that was given go before everything.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from localllm.settings.schema import KEYS


@dataclass(frozen=True)
class FromSettings:
    """The default of a flag: the setting `key`, or `otherwise` where that is not set."""

    key: str
    otherwise: object = None

    def __post_init__(self) -> None:
        assert self.key in KEYS


def fill(args: argparse.Namespace) -> argparse.Namespace:
    """Put the settings where flags were left out, whose names are then in `args.left_out`. Returns `args`.

    Raises:
        BadSettings: the settings have a mistake.
    """
    left_out = {name: value for name, value in vars(args).items() if isinstance(value, FromSettings)}
    args.left_out = frozenset(left_out)
    if left_out:
        from localllm.settings import load

        settings = load().settings
        for name, default in left_out.items():
            value = getattr(settings, default.key)
            setattr(args, name, default.otherwise if value is None else value)
    return args
