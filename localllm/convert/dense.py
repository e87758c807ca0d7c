"""The layers that sentence-transformers puts behind the pooling, each in a folder of its own beside the checkpoint.

Knows `modules.json` and the files of a layer; of the graphs of llama.cpp that there are two layers without biases.
"""

from __future__ import annotations

from dataclasses import replace

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.config import Config
from localllm.convert.families import DENSE, DENSE_WIDTH
from localllm.convert.pooling import modules
from localllm.convert.safetensors import read_safetensors_header
from localllm.convert.tensor import SourceTensor
from localllm.errors import BadCheckpoint, UnsupportedModel


def settle(checkpoint: Checkpoint, config: Config) -> Config:
    """Add the matrices of the layers to the checkpoint's tensors, and their width to its configuration.

    Raises:
        BadCheckpoint: a file of a layer is missing or damaged.
        UnsupportedModel: there are not two, or they do more than multiply by a matrix.
    """
    folders = [path for kind, path in modules(checkpoint) if kind == "Dense"]
    if not folders:
        return config
    matrices = [_matrix(checkpoint, folder) for folder in folders]
    hidden, width = config.count("hidden_size"), matrices[0].rows
    if [matrix.shape for matrix in matrices] != [(width, hidden), (hidden, width)]:
        found = ", ".join(str(list(matrix.shape)) for matrix in matrices)
        raise UnsupportedModel(
            f"{checkpoint.files.title}: the layers behind the pooling are {found}; llama.cpp has two, from {hidden} "
            f"numbers to others and back."
        )
    for name, matrix in zip(DENSE, matrices, strict=True):
        checkpoint.stored[name] = checkpoint.tensors[name] = replace(matrix, name=name)
    return Config({**config.values, DENSE_WIDTH: width})


def _matrix(checkpoint: Checkpoint, folder: str) -> SourceTensor:
    """The matrix of the layer in a folder."""
    settings, file = checkpoint.require_json(f"{folder}/config.json"), f"{folder}/model.safetensors"
    # What sentence-transformers does where the file says nothing.
    bias, activation = settings.get("bias", True), str(settings.get("activation_function", "Tanh")).rpartition(".")[2]
    if bias or activation != "Identity":
        what = "a bias" if bias else f"the activation {activation}"
        raise UnsupportedModel(
            f"{folder}/config.json: a layer behind the pooling has {what}; llama.cpp only multiplies by its matrix."
        )
    if file not in checkpoint.names:
        raise BadCheckpoint(
            f"{checkpoint.files.title} has no {file}.", hint=f"Copy {file} from where the checkpoint comes from."
        )
    tensors = read_safetensors_header(checkpoint.files, file)
    if [tensor.name for tensor in tensors] != ["linear.weight"] or len(tensors[0].shape) != 2:
        raise BadCheckpoint(f"{checkpoint.files.title}: {file} does not hold one matrix linear.weight.")
    return tensors[0]
