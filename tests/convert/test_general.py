"""What a model card and the recommended sampling become in a file, and what of them cannot be written."""

from __future__ import annotations

from typing import Any

import pytest

from localllm.convert import prepare
from localllm.convert.checkpoint import open_checkpoint
from localllm.convert.general import general_keys
from localllm.errors import BadCheckpoint
from tests.convert.helpers import MakeTiny, edit_json

CARD = "---\nlicense: 1.0\nlanguage:\n- no\n- nn\ntags:\n- chat\n- 2024\nbase_model: org/other\n---\n# Some model\n"


def test_what_a_card_says_is_text_whatever_yaml_takes_it_for(tiny: MakeTiny) -> None:
    folder = tiny()
    (folder / "README.md").write_text(CARD)
    with open_checkpoint(folder) as checkpoint:
        found = {name: value.value for name, value in general_keys(checkpoint, "llama", 1000).items()}
    assert found["general.license"] == "1.0"
    assert found["general.languages"] == ["no", "nn"]
    assert found["general.tags"] == ["chat", "2024"]
    assert found["general.base_model.0.name"] == "Other"


@pytest.mark.parametrize("card", [b"---\nlicense: [mit\n: :\n---\n", b"---\nlicense: \xff\n---\n"])
def test_a_card_that_is_damaged_is_named(tiny: MakeTiny, card: bytes) -> None:
    folder = tiny()
    (folder / "README.md").write_bytes(card)
    with pytest.raises(BadCheckpoint, match=r"what README\.md .* cannot be read"):
        prepare(folder)


@pytest.mark.parametrize("values", [{"temperature": "hot"}, {"top_k": 1.5}, {"repetition_penalty": 1e60}])
def test_sampling_that_is_no_number_is_named(tiny: MakeTiny, values: dict[str, Any]) -> None:
    folder = tiny()
    edit_json(folder / "generation_config.json", **values)
    with pytest.raises(BadCheckpoint, match=r"general\.sampling\.\w+ cannot be") as caught:
        prepare(folder)
    assert "generation_config.json" in caught.value.hint
