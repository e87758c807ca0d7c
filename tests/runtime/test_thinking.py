"""Where a reply thinks and where it answers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.thinking import MARKERS, Parted, Parting, parted


@pytest.mark.parametrize(("begin", "end"), MARKERS)
def test_every_pair_of_markers(begin: str, end: str) -> None:
    assert parted(f"{begin}\nHm.\n{end}\n\nYes.") == Parted("Hm.", True, "Yes.")
    assert parted(f"{begin}\nHm.") == Parted("Hm.", False, "")
    assert parted(f"\n {begin}Hm.") == Parted("Hm.", False, "")


def test_no_thought() -> None:
    assert parted("Yes.") == Parted(None, False, "Yes.")
    assert parted("") == Parted(None, False, "")


def test_a_marker_that_is_talked_about_is_text() -> None:
    for text in ("Models write <think> first.", "It ends with `</think>` then.", "First <think>,\n</think>\nthen."):
        assert parted(text) == Parted(None, False, text)


def test_a_thought_that_the_prompt_began() -> None:
    text = "Hm.\n\nWell.\n</think>\n\nYes."
    assert parted(text) == Parted("Hm.\n\nWell.", True, "Yes.")
    assert parted("Hm.", opened="<think>") == Parted("Hm.", False, "")
    assert parted("Hm. </think> Yes.", opened="<think>") == Parted("Hm.", True, "Yes.")


def test_a_marker_in_the_making_is_held_back_and_every_step_begins_with_the_one_before() -> None:
    text = "<think>\nIf 1 < 2,\n\nthen.\n</think>\n\nYes </b>, 1 < 2."
    thoughts, answers = [""], [""]
    for size in range(len(text) + 1):
        said = parted(text[:size], growing=True)
        assert "think" not in (said.thought or "") + said.answer
        if said.closed:
            answers.append(said.answer)
            assert said.thought == "If 1 < 2,\n\nthen."
        else:
            thoughts.append(said.thought or "")
    for steps in (thoughts, answers):
        assert all(after.startswith(before) for before, after in pairwise(steps))
    assert answers[-1] == "Yes </b>, 1 < 2."


def test_what_was_held_back_is_text_in_the_end() -> None:
    assert parted("<thi", growing=True) == Parted(None, False, "")
    assert parted("<thi") == Parted(None, False, "<thi")
    assert parted("<think>a</th") == Parted("a</th", False, "")


HARMONY = (
    "<|channel|>analysis<|message|>If 1 < 2,<|end|>"
    "<|start|>assistant<|channel|>commentary to=x <|constrain|>json<|message|>{}<|end|>"
    "<|start|>assistant<|channel|>analysis<|message|>then. <|end|>"
    "<|start|>assistant<|channel|>final<|message|>\nYes <b>, 1 < 2."
)


def test_a_reply_in_channels() -> None:
    assert parted(HARMONY) == Parted("If 1 < 2,\n\n{}\n\nthen.", True, "Yes <b>, 1 < 2.")
    assert parted("<|channel|>final<|message|>Yes.") == Parted(None, True, "Yes.")
    assert parted("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant") == Parted("Hm.", False, "")
    assert parted("<|channel|>analysis<|message|>Hm. <|e") == Parted("Hm. <|e", False, "")
    assert parted("It writes <|channel|>final<|message|> then.").thought is None


GRANITE = "<think>Hm.</think><response>Yes </b>, 1 < 2.</response>"
PAIRS = [
    (HARMONY, "If 1 < 2,\n\n{}\n\nthen. ", "Yes <b>, 1 < 2."),
    (GRANITE, "Hm.", "Yes </b>, 1 < 2."),
    ("[THINK]Hm.[/THINK]Yes.", "Hm.", "Yes."),
    ("Yes <and> no.", "", "Yes <and> no."),
    ("<thi", "", "<thi"),
]


@pytest.mark.parametrize(("text", "thought", "answer"), PAIRS)
def test_piece_by_piece_it_is_the_same(text: str, thought: str, answer: str) -> None:
    parting = Parting()
    parts = [parting.feed(character) for character in text] + [parting.rest()]
    assert "".join(part for part, _ in parts).strip() == thought.strip()
    assert "".join(part for _, part in parts) == answer
    assert not any("<|" in part or "response" in part for pair in parts for part in pair)


def test_granite_writes_markers_around_its_answer_too() -> None:
    assert parted(GRANITE) == Parted("Hm.", True, "Yes </b>, 1 < 2.")
    assert parted("<think>Hm.</think><response>Yes") == Parted("Hm.", True, "Yes")


QWEN3_THINKING = r"{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{%- endif %}"
MINIMAX = r"{%- if add_generation_prompt -%}{{- ']~b]ai' ~ '\n' ~ '<think>' ~ '\n' }}{%- endif -%}"
ON_REQUEST = r"{{ 'assistant' }}{% if thinking %}{{'<think>'}}{% endif %}"
SWITCHED_OFF = r"{%- if add_generation_prompt %}{{- 'assistant\n<think>\n\n</think>\n\n' }}{%- endif %}"
REFUSES = r"{{ raise_exception('no') }}"


@pytest.mark.parametrize(
    ("template", "marker"),
    [(QWEN3_THINKING, "<think>"), (MINIMAX, "<think>"), (ON_REQUEST, ""), (SWITCHED_OFF, ""), (REFUSES, "")],
)
def test_templates_that_begin_the_thought(smollm2: Path, template: str, marker: str) -> None:
    with Model.load(smollm2, Options(n_ctx=256, chat_template=template)) as model:
        assert model.info.opens_thought == marker
