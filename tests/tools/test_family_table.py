"""docs/families.md is what its tool makes of the families and the goldens that there are."""

from __future__ import annotations

import pytest
from family_table import PATH, TOKENIZERS, errors_of, exponents, page, tokenizers

from localllm.convert.families import known
from localllm.convert.vocabulary.pretokenizers import KNOWN
from tests.convert.golden import goldens
from tests.convert.test_goldens import LIMIT

REMAKE = "run tools/family_table.py"


@pytest.mark.slow
def test_the_page_is_of_these_families() -> None:
    text = PATH.read_text(encoding="utf-8")
    errors = errors_of(text)
    assert sorted(errors) == sorted(known()), REMAKE
    assert text == page(errors), REMAKE


def test_every_error_is_under_the_gate() -> None:
    errors = errors_of(PATH.read_text(encoding="utf-8"))
    assert max(10.0**exponent for exponent in errors.values()) < LIMIT


@pytest.mark.slow
def test_an_error_is_measured_and_rounded_up() -> None:
    golden = next(golden for golden in goldens() if golden.name == "qwen2")
    assert exponents([golden]).keys() == {"Qwen2ForCausalLM"}
    assert 10.0 ** exponents([golden])["Qwen2ForCausalLM"] < LIMIT


def test_the_tokenizers_are_those_that_the_converter_knows() -> None:
    names = {name for way in KNOWN for name in (way.name, *way.same)}
    assert TOKENIZERS.keys() - names == {"SentencePiece", "Unigram", "WordPiece"}
    families = {stem for stems in TOKENIZERS.values() for stem in stems.split()}
    assert {stem for stem in families if not any(name.startswith(stem) for name in known())} == set()
    assert tokenizers("Phi3ForCausalLM") == ["SentencePiece", "dbrx", "gpt-4o"]
    assert tokenizers("ArceeForCausalLM") == ["by structure"]
