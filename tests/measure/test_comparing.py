"""One prompt to two quantizations of the real default model, each in an engine process of its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from localllm.errors import BadTemplate, Cancelled, DoesNotFit, EngineDied
from localllm.measure.compared import as_json, as_markdown, figures, verdicts
from localllm.measure.comparing import Answer, Comparison, Contender, Loading, Reading, Request, Said, Step
from localllm.runtime.options import Options
from localllm.runtime.process import ModelProcess
from localllm.runtime.responder import Responder
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import DeviceMemory, Plan

pytestmark = pytest.mark.slow

GREEDY = Sampling(temperature=0)
SMALL = Options(n_ctx=512)


class Processes:
    """Opens each model, and keeps what it opened to look at."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.alive_at_open: list[int] = []

    def open(self, contender: Contender, progress: Callable[[float], None], stopped: threading.Event) -> Responder:
        self.alive_at_open.append(sum(map(psutil.pid_exists, self.pids)))
        model = ModelProcess.load(contender.path, contender.options, progress=progress, cancelled=stopped.is_set)
        self.pids.append(model.pid)
        return model

    def release(self, model: Responder) -> None:
        model.close()


def compared(
    paths: list[Path],
    request: Request,
    hear: Callable[[int, Step], object] = lambda *_: None,
    options: Options = SMALL,
) -> tuple[list[Answer], Processes]:
    engines = Processes()
    contenders = [Contender(path.stem, path, options) for path in paths]
    return Comparison(contenders, request, engines).run(hear), engines


def test_two_quantizations_one_after_the_other(smollm2: Path, smollm2_q2: Path) -> None:
    steps: list[tuple[int, str]] = []
    said = ["", ""]

    def hear(number: int, step: Step) -> None:
        steps.append((number, type(step).__name__))
        if isinstance(step, Said):
            said[number] += step.text

    request = Request("Why is the sky blue?", GREEDY, "Answer at length.", max_tokens=24)
    answers, engines = compared([smollm2, smollm2_q2], request, hear)
    assert engines.alive_at_open == [0, 0]
    assert [answer.text for answer in answers] == said
    kinds = [step for index, step in enumerate(steps) if index == 0 or steps[index - 1] != step]
    assert kinds == [(number, kind.__name__) for number in (0, 1) for kind in (Loading, Reading, Said, Answer)]
    for answer in answers:
        assert answer.error is None
        assert answer.stats is not None
        assert answer.stats.completion_tokens <= 24
        assert answer.stats.decode_tps > 0
        assert answer.memory is not None
        assert answer.memory.kv_used > 0
        assert answer.plan is not None
        assert answer.plan.n_ctx == 512
    assert [answer.info.quantization for answer in answers if answer.info is not None] == ["Q4_1", "Q2_K"]
    (verdict,) = verdicts(answers)
    assert "part at word" in verdict
    document = as_json(request, answers)
    assert document["answers"][0]["file_bytes"] == smollm2.stat().st_size
    assert document["partings"][0]["words"] > 0
    table = as_markdown(request, answers)
    assert "> Why is the sky blue?" in table
    assert f"| file | 93.8 MiB, Q4_1 | {dict(figures(answers[1]))['file']} |" in table


def test_one_seed_is_drawn_for_all(smollm2: Path) -> None:
    warm = Sampling(temperature=1.5)
    answers, _ = compared([smollm2, smollm2], Request("Tell me a story.", warm, max_tokens=16))
    assert answers[0].sampling == answers[1].sampling
    assert answers[0].text == answers[1].text
    assert verdicts(answers) == [f"{smollm2.stem} and {smollm2.stem} say the same."]


def test_an_engine_that_dies_leaves_the_other_side(smollm2: Path, smollm2_q2: Path) -> None:
    engines = Processes()

    def hear(number: int, step: Step) -> None:
        if number == 0 and isinstance(step, Said):
            os.kill(engines.pids[0], signal.SIGKILL)

    contenders = [Contender(path.stem, path, SMALL) for path in (smollm2, smollm2_q2)]
    request = Request("Tell me a long story.", GREEDY, max_tokens=40)
    first, second = Comparison(contenders, request, engines).run(hear)
    assert isinstance(first.error, EngineDied)
    assert first.text
    assert "SIGKILL" in dict(figures(first))["ended"]
    assert second.error is None
    assert second.stats is not None


def test_a_stop_ends_what_runs_and_begins_nothing_more(smollm2: Path, smollm2_q2: Path) -> None:
    engines = Processes()
    contenders = [Contender(path.stem, path, SMALL) for path in (smollm2, smollm2_q2)]
    comparison = Comparison(contenders, Request("Tell me a long story.", GREEDY), engines)
    (only,) = comparison.run(lambda _, step: comparison.stop() if isinstance(step, Said) else None)
    assert only.stats is not None
    assert only.stats.stop_reason == "cancelled"
    assert only.text
    assert len(engines.pids) == 1
    assert not psutil.pid_exists(engines.pids[0])


def test_a_stop_while_loading(smollm2: Path) -> None:
    engines = Processes()
    comparison = Comparison([Contender("one", smollm2, SMALL)], Request("Hi", GREEDY), engines)
    (only,) = comparison.run(lambda _, step: comparison.stop() if isinstance(step, Loading) else None)
    assert isinstance(only.error, Cancelled)


def test_what_does_not_fit_and_what_has_no_template(smollm2: Path, tmp_path: Path) -> None:
    (too_large,), _ = compared([smollm2], Request("Hi", GREEDY), options=Options(n_ctx=2_000_000_000))
    assert isinstance(too_large.error, DoesNotFit)
    assert "What would fit" in too_large.error.hint
    bare = tmp_path / "bare.gguf"
    bare.write_bytes(smollm2.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_reserved"))
    (untaught,), _ = compared([bare], Request("Hi", GREEDY))
    assert isinstance(untaught.error, BadTemplate)
    assert "no chat template" in dict(figures(untaught))["ended"]


def test_thoughts_are_folded_and_only_answers_are_compared() -> None:
    one = Answer(Contender("one", Path("a.gguf")), "<think>\nA capital.\n</think>\n\nParis it is.")
    other = Answer(Contender("other", Path("b.gguf")), "[THINK]Of France.[/THINK]Paris it was.")
    cut = Answer(Contender("cut", Path("c.gguf")), "<think>\nHalf of", error=Cancelled("It was stopped."))
    text = as_markdown(Request("Capital?", GREEDY), [one, other, cut])
    assert "## one\n\n<details>\n<summary>Thought</summary>\n\nA capital.\n\n</details>\n\nParis it is.\n" in text
    assert "\n\nOf France.\n\n</details>\n\nParis it was.\n" in text
    assert text.endswith("\n\nHalf of\n\n</details>\n\nstopped\n")
    assert not any(marker in text for marker in ("<think>", "[THINK]"))
    assert verdicts([one, other, cut]) == ["one and other part at word 3 (character 10): “is.” and “was.”."]
    document = as_json(Request("Capital?", GREEDY), [one, cut])["answers"]
    assert [(said["thought"], said["answer"]) for said in document] == [("A capital.", "Paris it is."), ("Half of", "")]


def test_figures_of_what_was_never_loaded_are_the_same_rows() -> None:
    failed = Answer(Contender("a|b", Path("a.gguf")), error=DoesNotFit("It needs 9 GiB."))
    plan = Plan(Path("b"), SMALL, (DeviceMemory("CPU", "cpu", 1 << 30, 1 << 20, 1 << 20, 0, 0),), exact=False)
    planned = Answer(Contender("b", Path("b.gguf")), plan=plan)
    assert [name for name, _ in figures(failed)] == [name for name, _ in figures(planned)]
    assert dict(figures(planned))["weights"] == "about 1.00 GiB"
    assert dict(figures(failed))["decode"] == "-"
    assert "| a\\|b | b |" in as_markdown(Request("Hi", GREEDY), [failed, planned])
