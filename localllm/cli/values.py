"""What the values of flags may be: each function reads one and refuses what is wrong, for `type=` of argparse."""

from __future__ import annotations

import argparse
import re

from localllm import paths
from localllm.settings.kinds import KV_TYPES as KV_TYPES
from localllm.settings.kinds import LARGEST_SEED as LARGEST_SEED
from localllm.settings.kinds import MAX_THREADS as MAX_THREADS
from localllm.settings.kinds import WINDOWS as WINDOWS
from localllm.settings.kinds import parse_size


def whole(text: str) -> int:
    """A whole number from 0 on."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def positive(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def not_negative(text: str) -> float:
    """A number from 0 on."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return number


def tokens(text: str) -> int:
    """A number of tokens that llama.cpp can count."""
    number = whole(text)
    if number >= 1 << 31:
        raise argparse.ArgumentTypeError(f"{number} is more than llama.cpp can count")
    return number


def sha256(text: str) -> str:
    """A SHA-256 in hexadecimal digits, in small letters."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a SHA-256: 64 hexadecimal digits")
    return text.lower()


def text_of_file(path: str) -> str:
    """What a file of text holds."""
    try:
        text = paths.expanded(path).read_text(encoding="utf-8")
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise argparse.ArgumentTypeError(f"{path} is no text: at byte {error.start:,} it is no UTF-8") from None
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{path} is empty")
    return text


def threads(text: str) -> int:
    """A number of threads that ggml can start."""
    number = whole(text)
    if number > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{number} is more than {MAX_THREADS}")
    return number


def batch(text: str) -> int:
    """A number of tokens, at least 1."""
    positive(text)
    return tokens(text)


def seed(text: str) -> int:
    """A seed: the number after the largest one means "draw one" to llama.cpp."""
    number = whole(text)
    if number > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{number} is more than {LARGEST_SEED}")
    return number


def byte_count(text: str) -> int:
    """A number of bytes as people write it: `6GB` and `6G` are 6e9, `6GiB` is 6 * 2**30."""
    try:
        return parse_size(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of memory: 6GB or 5.5GiB, say") from None


def room(text: str) -> int:
    """A number of bytes, or 0 for none."""
    return 0 if text.strip() == "0" else byte_count(text)


def kv_type(text: str) -> str:
    """The type of the KV cache, or K/V, or `auto`."""
    if text == "auto":
        return text
    k, _, v = text.partition("/")
    for kind in (k, v or k):
        if kind not in KV_TYPES:
            raise argparse.ArgumentTypeError(f"{kind!r} is none of {', '.join(KV_TYPES)}")
    return text


def proportions(text: str) -> tuple[float, ...]:
    """`3,1`: proportions, not all 0."""
    found = tuple(not_negative(part) for part in text.split(","))
    if not sum(found):
        raise argparse.ArgumentTypeError(f"{text!r} leaves out every device")
    return found


def layers(text: str) -> int | None:
    """A number of layers, or `auto` as None."""
    return None if text == "auto" else whole(text)


def adapter(text: str) -> tuple[str, float]:
    """FILE or FILE=SCALE."""
    path, equals, scale = text.rpartition("=")
    try:
        return (path, float(scale)) if equals else (text, 1.0)
    except ValueError:
        return text, 1.0  # a name with an =


def endpoint(text: str) -> str:
    """HOST:PORT of a worker."""
    from localllm.native.rpc import parse_endpoint

    parse_endpoint(text)
    return text


for _parse, _name in (
    (whole, "whole number"),
    (positive, "positive number"),
    (fraction, "fraction"),
    (not_negative, "number"),
    (tokens, "number of tokens"),
    (batch, "number of tokens"),
    (threads, "number of threads"),
    (seed, "seed"),
    (room, "number of bytes"),
    (byte_count, "number of bytes"),
    (layers, "number of layers"),
    (endpoint, "HOST:PORT"),
    (adapter, "FILE[=SCALE]"),
    (kv_type, "type of the KV cache"),
    (proportions, "proportions"),
):
    _parse.__name__ = _name  # argparse names the type of a wrong value by it
