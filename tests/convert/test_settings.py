"""The options of a conversion, and the short way to set the one that matters most."""

from __future__ import annotations

import pytest

from localllm.convert import Settings, preview
from localllm.convert.settings import settled
from localllm.errors import UnsupportedModel
from tests.convert.helpers import MakeTiny


def test_the_short_type_goes_before_that_of_the_settings() -> None:
    assert settled(None, None) == Settings() == Settings(type="Q4_K_M")
    assert settled("q8_0", None).type == "Q8_0"
    assert settled(None, Settings(type="q6_k")).type == "Q6_K"
    assert settled("f16", Settings(type="q6_k")).type == "F16"


def test_a_type_that_does_not_exist_is_refused_before_the_checkpoint_is_read() -> None:
    with pytest.raises(UnsupportedModel, match="no quantization type 'Q4'"):
        preview("there-is-no-such-folder", settings=Settings(type="Q4"))


def test_settings_reach_the_plan(tiny: MakeTiny) -> None:
    source = tiny()
    assert preview(source, settings=Settings(type="q8_0")) == preview(source, "Q8_0")
    assert preview(source).type == "Q4_K_M"
