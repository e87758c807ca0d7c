"""The `general.*` keys: name, size, licence, recommended sampling, from the model card and the checkpoint's name.

The `gguf` package knows the conventions; this asks it and adds what its releases miss.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.files import LocalFiles
from localllm.convert.header import Keys, KeyValue, text, texts
from localllm.errors import BadCheckpoint, MissingPackage

_READ = ("README.md", "config.json", "generation_config.json")


def general_keys(checkpoint: Checkpoint, arch: str, parameters: int) -> Keys:
    """The `general.*` keys of a model with `parameters` weights, as the reference converter names them.

    Raises:
        BadCheckpoint: the model card or what is recommended for sampling cannot be read.
        MissingPackage: the package `gguf` is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingPackage("convert needs the package gguf.", hint="pip install 'localllm[convert]'") from error
    generation = checkpoint.object("generation_config.json")
    with _folder(checkpoint) as folder:
        try:
            metadata = gguf.Metadata.load(None, folder, None, parameters)
        except Exception as error:  # nothing narrower: the package looks into what people wrote without checking it
            what = f"{checkpoint.files.title}: what README.md and config.json say of the model cannot be read"
            raise BadCheckpoint(
                f"{what}: {' '.join(str(error).split())}.",
                hint="Mend the lines between --- at the beginning of README.md, or remove the file.",
            ) from error
    if metadata.sampling_penalty_repeat is None:
        # Releases of gguf up to 0.19 look for this only under a name that transformers does not write.
        metadata.sampling_penalty_repeat = generation.get("repetition_penalty")
    metadata.name = metadata.name or checkpoint.files.origin.name
    metadata.size_label = metadata.size_label or gguf.size_label(parameters, parameters, 0, 0)
    writer = gguf.GGUFWriter(path=None, arch=arch)
    metadata.set_gguf_meta_model(writer)
    found = {key: _key(value) for key, value in writer.kv_data[0].items()}
    for key, value in found.items():
        try:
            value.packed()
        except (struct.error, OverflowError) as error:
            raise BadCheckpoint(
                f"{checkpoint.files.title}: {key} cannot be {value.value!r}: {error}.",
                hint="Mend generation_config.json, or remove the line.",
            ) from error
    return {"general.architecture": text(arch), "general.type": text("model"), **found}


def _key(value: Any) -> KeyValue:
    """A value of `gguf` as ours. A model card may have a number where a text is meant: the tag 2024, say."""
    if isinstance(value.value, list):
        return texts([str(part) for part in value.value])
    if value.type.name == "STRING":
        return text(str(value.value))
    return KeyValue(int(value.type), value.value)


@contextmanager
def _folder(checkpoint: Checkpoint) -> Iterator[Path]:
    """A folder with the files that `gguf` reads and the name from which it guesses."""
    files = checkpoint.files
    if isinstance(files, LocalFiles) and not files.origin.repo:
        yield files.folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="localllm-") as parent:
        folder = Path(parent, files.origin.name)
        folder.mkdir()
        for name in _READ:
            content = checkpoint.text(name)
            if content is not None:
                (folder / name).write_text(content, encoding="utf-8")
        yield folder
