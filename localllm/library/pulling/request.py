"""What a person asks to pull, read from its name: a repo of the hub, a file in one, or an address.

Asks nobody whether it exists. Names of the catalogue have no slash and are none of these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants

from localllm.errors import ModelNotFound

_REPO = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:@(?P<revision>[^\s:@]+?))?"
    r"(?:/(?P<file>[^\s:]+\.gguf)|:(?P<quantization>[\w.-]+))?"
)
_PAGE = re.compile(r"/(?P<repo>[^/]+/[^/]+)(?:/(?:blob|resolve|tree)/(?P<revision>[^/]+)(?:/(?P<file>.+))?)?/?")
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")


@dataclass(frozen=True)
class Request:
    """A repo, and what of it: one file, the files of one quantization, or whatever suits where both are empty."""

    repo: str
    revision: str = constants.DEFAULT_REVISION
    file: str = ""
    quantization: str = ""


@dataclass(frozen=True)
class Address:
    """A file on a web server; `name` is what it is called there."""

    url: str
    name: str


def read_name(name: str) -> Request | Address:
    """What `name` asks for: `org/repo`, `org/repo:Q4_K_M`, `org/repo/file.gguf`, each with `@revision` behind the repo,
    the address of a file, or that of a page of the hub.

    Raises:
        ModelNotFound: it is none of these.
    """
    if "://" in name:
        return _address(name)
    host, _, path = name.partition("/")
    found = _REPO.fullmatch(path if host in _HOSTS else name)
    if found is None or found["repo"].endswith(".gguf"):
        raise ModelNotFound(
            f"{name!r} is no name of a model, no repo and no address.",
            hint="Give org/repo, org/repo:Q4_K_M, org/repo/file.gguf, or https://…/file.gguf.",
        )
    return _request(found)


def _request(found: re.Match[str]) -> Request:
    return Request(**{key: value for key, value in found.groupdict().items() if value})


def _address(url: str) -> Request | Address:
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc in (*_HOSTS, urlsplit(constants.ENDPOINT).netloc):
        page = _PAGE.fullmatch(path)
        if page and (page["file"] or page["repo"]).endswith(".gguf") == bool(page["file"]):
            return _request(page)
    name = PurePosixPath(path).name
    if parts.scheme not in ("http", "https") or not name.lower().endswith(".gguf") or not parts.netloc:
        raise ModelNotFound(f"{url} is no address of a GGUF file.", hint="It has to end in .gguf: https://…/model.gguf")
    return Address(url, name)
