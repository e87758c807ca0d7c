"""What a load does beside llama.cpp: the same plan, and nothing is left behind when it fails."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

import localllm
from localllm.errors import BadModelFile, Cancelled, LocalLLMError
from localllm.native import devices, handles, log
from localllm.runtime import loading, parts, plan, simulate
from localllm.runtime.aside import Aside
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.plan import make_plan
from localllm.runtime.types import Plan

SMALL = Options(n_ctx=512)


@pytest.mark.slow
@pytest.mark.parametrize("copies", [False, True])
def test_a_load_beside_which_is_simulated_has_the_plan_of_one_that_waited(
    smollm2: Path, copies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    honest = simulate.simulated

    def simulated(*given: object) -> Plan:
        threads.append(threading.current_thread().name)
        return honest(*given)  # type: ignore[arg-type]

    waited = make_plan(smollm2, SMALL)
    simulate._known.clear()
    monkeypatch.setattr(plan, "simulated", simulated)
    if copies:
        monkeypatch.setattr(devices, "has_matrix_unit", lambda: True)
    with Model.load(smollm2, SMALL) as model:
        loaded = model.plan
    assert threads == (["MainThread"] if copies or devices.has_matrix_unit() else [])
    now = replace(loaded.devices[0], free=0)
    assert now == replace(waited.devices[0], free=0)
    assert (loaded.exact, loaded.notes, loaded.more_weights) == (True, waited.notes, waited.more_weights)


def test_where_there_is_not_room_for_twice_as_much_the_load_is_simulated_first(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []
    honest = handles.open_model

    def open_model(*given: object, simulate: bool = False, **more: object) -> handles.ModelHandle:
        opened.append(simulate)
        if not simulate:
            raise BadModelFile("far enough")
        return honest(*given, simulate=simulate, **more)  # type: ignore[arg-type]

    simulate._known.clear()
    monkeypatch.setattr(handles, "open_model", open_model)
    needed = sum(part.weights + part.kv + part.compute for part in make_plan(smollm2, SMALL).devices)
    monkeypatch.setattr("localllm.native.machine.system_memory", lambda: (needed + (1 << 20), 8 << 30))
    simulate._known.clear()
    opened.clear()
    with pytest.raises(BadModelFile, match="far enough"):
        Model.load(smollm2, SMALL)
    assert opened == [True, False]


@pytest.mark.slow
def test_what_fails_beside_a_load_ends_it(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[Path] = []
    read = threading.Event()
    close, honest = handles.ModelHandle.close, loading.read_weights

    def closed(handle: handles.ModelHandle) -> None:
        freed.append(handle.path)
        close(handle)

    def read_weights(*given: object) -> tuple[handles.ModelHandle, list[str]]:
        opened = honest(*given)  # type: ignore[arg-type]
        read.set()
        return opened

    def fail(_options: Options) -> Options:
        read.wait()
        raise LocalLLMError("the catalogue has a mistake")

    monkeypatch.setattr(handles.ModelHandle, "close", closed)
    monkeypatch.setattr(parts, "read_weights", read_weights)
    with pytest.raises(LocalLLMError, match="the catalogue has a mistake"):
        Model.load(smollm2, SMALL, settle=fail)
    assert smollm2 in freed
    assert [thread.name for thread in threading.enumerate() if thread.name == "llama.cpp"] == []


@pytest.mark.slow
def test_the_catalogue_recommends_for_a_load_by_path(smollm2: Path) -> None:
    with localllm.load(smollm2, SMALL) as model:
        recommended = dict(model.plan.options.recommended)
        assert recommended
        assert all(getattr(model.default_sampling, name) == value for name, value in recommended.items())


def test_what_is_logged_beside_a_load_is_not_of_the_load() -> None:
    aside = Aside()

    def work() -> Plan:
        log.heard(log.ERROR, "of another load\n")
        raise LocalLLMError("it has no plan")

    log.forget_problems()
    aside.weights_are_read()
    aside.context_is_made(work)
    with log.captured() as lines, pytest.raises(LocalLLMError, match="it has no plan"):
        aside.run()
    assert (lines, log.recent_problems()) == ([], [])
    with pytest.raises(Cancelled, match="stopped"):
        aside.plan()


def test_nobody_waits_for_what_does_not_come() -> None:
    ended, given_up = Aside(), Aside()
    ended.ended()
    ended.run()  # there is nothing to do
    given_up.give_up()
    with pytest.raises(Cancelled, match="stopped"):
        given_up.plan()
