"""Hyperparameters that stand in tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from make_tiny_models import write_weights

from localllm.convert import convert, prepare
from localllm.errors import BadCheckpoint
from localllm.gguf_file import Array, read_header
from tests.convert.golden import Golden, goldens, seeded, weight, write_checkpoint

NAME = "model.layers.1.mlp.act_fn.alpha_n"


@pytest.fixture
def apertus() -> Golden:
    return next(golden for golden in goldens() if golden.name == "apertus")


def test_one_number_of_every_layer_becomes_a_list_in_the_metadata(apertus: Golden, tmp_path: Path) -> None:
    path = convert(write_checkpoint(apertus, tmp_path / "tiny"), tmp_path / "x.gguf", type="F32").outfile
    header = read_header(path)
    expected = [weight(NAME.replace("1", str(layer)), (1,))[0] for layer in range(2)]
    found = header.metadata["xielu.alpha_n"]
    assert isinstance(found, Array)
    assert list(found) == expected
    assert not any("act_fn" in tensor.name for tensor in header.tensors)


@pytest.mark.parametrize(
    ("changed", "named"), [({}, "is missing"), ({NAME: (2,)}, "has shape [2], not one number")], ids=["gone", "longer"]
)
def test_a_number_that_is_not_there_is_an_error_that_names_it(
    apertus: Golden, changed: dict[str, Any], named: str, tmp_path: Path
) -> None:
    folder = write_checkpoint(apertus, tmp_path / "tiny")
    shapes = {name: shape for name, shape in apertus.shapes.items() if name != NAME} | changed
    write_weights(folder, {name: seeded(name, shape) for name, shape in shapes.items()})
    with pytest.raises(BadCheckpoint) as caught:
        prepare(folder, "F32")
    assert NAME in str(caught.value)
    assert named in str(caught.value)
