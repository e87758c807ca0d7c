"""The `general.*` keys: name, size, licence, recommended sampling, from the model card and the checkpoint's name.

The `gguf` package knows the conventions; this asks it and adds what its releases miss.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.files import LocalFiles
from localllm.convert.header import Keys, KeyValue, text, texts
from localllm.errors import MissingPackage

_READ = ("README.md", "config.json", "generation_config.json")


def general_keys(checkpoint: Checkpoint, arch: str, parameters: int) -> Keys:
    """The `general.*` keys of a model with `parameters` weights, as the reference converter names them.

    Raises:
        MissingPackage: the package `gguf` is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingPackage("convert needs the package gguf.", hint="pip install 'localllm[convert]'") from error
    generation = checkpoint.object("generation_config.json")
    with _folder(checkpoint) as folder:
        metadata = gguf.Metadata.load(None, folder, None, parameters)
    if metadata.sampling_penalty_repeat is None:
        # Releases of gguf up to 0.19 look for this only under a name that transformers does not write.
        metadata.sampling_penalty_repeat = generation.get("repetition_penalty")
    metadata.name = metadata.name or checkpoint.files.origin.name
    metadata.size_label = metadata.size_label or gguf.size_label(parameters, parameters, 0, 0)
    writer = gguf.GGUFWriter(path=None, arch=arch)
    metadata.set_gguf_meta_model(writer)
    found = {
        key: texts(value.value) if isinstance(value.value, list) else KeyValue(int(value.type), value.value)
        for key, value in writer.kv_data[0].items()
    }
    return {"general.architecture": text(arch), "general.type": text("model"), **found}


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
