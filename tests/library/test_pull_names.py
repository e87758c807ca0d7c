"""What a name to pull asks for, and which files of a repo that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.errors import DownloadFailed, ModelNotFound
from localllm.library.listing import Listing
from localllm.library.pulling.request import Address, Request, read_name
from localllm.library.pulling.variants import choose, variants
from localllm.library.ranges import RemoteFile
from tests.library.hub_server import HubServer


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("org/name", Request("org/name")),
        ("org/name-GGUF:Q4_K_M", Request("org/name-GGUF", quantization="Q4_K_M")),
        ("org/name@v2:Q8_0", Request("org/name", "v2", quantization="Q8_0")),
        ("org/name/model.gguf", Request("org/name", file="model.gguf")),
        ("org/name/Q8_0/model-00001-of-00002.gguf", Request("org/name", file="Q8_0/model-00001-of-00002.gguf")),
        ("org/name@v2/model.gguf", Request("org/name", "v2", "model.gguf")),
        ("hf.co/org/name:Q8_0", Request("org/name", quantization="Q8_0")),
        ("https://huggingface.co/org/name", Request("org/name")),
        ("https://huggingface.co/org/name/tree/v2", Request("org/name", "v2")),
        ("https://huggingface.co/org/name/blob/main/a/b%20c.gguf", Request("org/name", "main", "a/b c.gguf")),
        ("https://huggingface.co/org/name/resolve/v2/b.gguf?download=true", Request("org/name", "v2", "b.gguf")),
        ("https://example.org/x/m.gguf?key=1", Address("https://example.org/x/m.gguf?key=1", "m.gguf")),
    ],
)
def test_a_name_is_read(name: str, wanted: Request | Address) -> None:
    assert read_name(name) == wanted


def test_a_page_of_the_hub_in_use_is_read(hub: HubServer) -> None:
    assert read_name(f"{hub.url}/org/name/resolve/main/m.gguf") == Request("org/name", "main", "m.gguf")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("folder/model.gguf", "no name of a model"),
        ("org/name:", "no name of a model"),
        ("org/../name", "no name of a model"),
        ("/etc/passwd", "no name of a model"),
        ("https://example.org/page", "no address of a GGUF file"),
        ("ftp://example.org/m.gguf", "no address of a GGUF file"),
        ("https:///m.gguf", "no address of a GGUF file"),
    ],
)
def test_what_is_no_name_is_refused(name: str, told: str) -> None:
    with pytest.raises(ModelNotFound, match=told):
        read_name(name)


def listing(*names: str) -> Listing:
    files = {name: RemoteFile(name, "", 1000 + number, "0" * 64) for number, name in enumerate(names)}
    return Listing("org/name", "main", "c" * 40, files)


USUAL = listing("m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-UD-Q2_K_XL.gguf", "mmproj-F16.gguf", "README.md")


@pytest.mark.parametrize(
    ("repo", "asked", "wanted"),
    [
        (USUAL, Request("org/name"), ["m-Q4_K_M.gguf"]),
        (USUAL, Request("org/name", quantization="q8_0"), ["m-Q8_0.gguf"]),
        (USUAL, Request("org/name", quantization="Q2_K_XL"), ["m-UD-Q2_K_XL.gguf"]),
        (USUAL, Request("org/name", file="mmproj-F16.gguf"), ["mmproj-F16.gguf"]),
        (listing("m.gguf"), Request("org/name"), ["m.gguf"]),
        (listing("BF16/m.gguf", "Q8_0/m.gguf"), Request("org/name", quantization="BF16"), ["BF16/m.gguf"]),
        (
            listing(*(f"Q8_0/m-Q8_0-{number:05}-of-00002.gguf" for number in (2, 1))),
            Request("org/name"),
            ["Q8_0/m-Q8_0-00001-of-00002.gguf", "Q8_0/m-Q8_0-00002-of-00002.gguf"],
        ),
        (
            listing("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"),
            Request("org/name", file="m-00002-of-00002.gguf"),
            ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"],
        ),
    ],
)
def test_the_files_that_are_asked_for(repo: Listing, asked: Request, wanted: list[str]) -> None:
    assert [file.name for file in choose(repo, asked).files] == wanted


@pytest.mark.parametrize(
    ("repo", "asked", "told"),
    [
        (listing("a-Q8_0.gguf", "a-Q2_K.gguf"), Request("org/name"), r"holds 2 models, none in Q4_K_M.\nChoose one:"),
        (listing("a-Q8_0.gguf", "a-Q2_K.gguf"), Request("org/name"), r"\n  org/name:Q8_0  0 MB\n  org/name:Q2_K  0 MB"),
        (listing("a-Q4_K_M.gguf", "b-Q4_K_M.gguf"), Request("org/name"), r"holds 2 models, several in Q4_K_M"),
        (
            listing("a-Q4_K_M.gguf", "b-Q4_K_M.gguf"),
            Request("org/name"),
            r"org/name/a-Q4_K_M.gguf .*\n.*/b-Q4_K_M.gguf",
        ),
        (USUAL, Request("org/name", quantization="Q5_0"), r"has no model in Q5_0.\nChoose one:\n.*Q8_0"),
        (
            USUAL,
            Request("org/name", file="m-Q4_0.gguf"),
            r"has no file m-Q4_0.gguf.\nThe nearest there: .*m-Q4_K_M.gguf",
        ),
        (USUAL, Request("org/name", file="other.gguf"), r"has no file other.gguf.\nChoose one"),
    ],
)
def test_what_cannot_be_chosen_lists_the_choices(repo: Listing, asked: Request, told: str) -> None:
    with pytest.raises(ModelNotFound, match=told):
        choose(repo, asked)


def test_a_part_that_the_repo_lacks_is_named() -> None:
    with pytest.raises(DownloadFailed, match=r"lacks m-00002-of-00003.gguf, one of 3 parts"):
        variants(listing("m-00001-of-00003.gguf", "m-00003-of-00003.gguf"))


@pytest.mark.parametrize("name", ["../x.gguf", "a/../../x.gguf", "/x.gguf", "a\\..\\x.gguf"])
def test_a_file_name_that_climbs_out_is_refused(name: str) -> None:
    with pytest.raises(DownloadFailed, match="leads out of its folder"):
        choose(listing(name), Request("org/name"))
    assert Path(name).name
