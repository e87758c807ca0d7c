"""What this process may use: the operating system's numbers, lowered to the cgroup's."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from localllm.native import machine


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "1000000", "memory.current": "400000", "memory.stat": "inactive_file 100000\n"}, 300_000),
        ({"memory.max": "max", "memory.current": "400000"}, None),
        ({"memory.limit_in_bytes": "1000000", "memory.usage_in_bytes": "250000"}, 250_000),
    ],
)
def test_a_cgroup_limit_is_the_truth(
    files: dict[str, str], expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "_cgroup_folders", lambda: (tmp_path,))
    available, total = machine.system_memory()
    if expected is None:
        assert total == psutil.virtual_memory().total
    else:
        assert total == 1_000_000
        assert available == 1_000_000 - expected


def test_a_full_parent_limits_an_empty_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit, used in (("leaf", 1 << 30, 0), ("parent", 2 << 30, (2 << 30) - (100 << 20))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "memory.max").write_text(str(limit))
        (tmp_path / name / "memory.current").write_text(str(used))
    monkeypatch.setattr(machine, "_cgroup_folders", lambda: (tmp_path / "leaf", tmp_path / "parent"))
    assert machine.system_memory() == (100 << 20, 1 << 30)


@pytest.mark.parametrize(("quota", "threads"), [("150000 100000", 1), ("50000 100000", 1), ("max 100000", None)])
def test_threads_follow_the_cpu_quota(
    quota: str, threads: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_cpu_cgroup_folders", lambda: ())
    unlimited = machine.usable_threads()
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(machine, "_cpu_cgroup_folders", lambda: (tmp_path,))
    assert machine.usable_threads() == (threads or unlimited)


def test_threads_follow_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0}, raising=False)
    assert machine.usable_threads() == 1


def test_hyperthreads_of_one_core_are_one_core(tmp_path: Path) -> None:
    for cpu, core in enumerate((0, 1, 0, 1)):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "core_id").write_text(f"{core}\n")
        (folder / "physical_package_id").write_text("0\n")
    assert machine._physical_cores({0, 1, 2, 3}, tmp_path) == 2
    assert machine._physical_cores({0, 2}, tmp_path) == 1
    assert machine._physical_cores({0}, tmp_path / "none") == 1


def test_limits_name_what_is_lowest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cgroup_folders", lambda: (tmp_path,))
    monkeypatch.setattr(machine, "_cpu_cgroup_folders", lambda: (tmp_path,))
    free = machine.limits()
    assert (free.memory, free.cpu_quota) == (None, None)
    for name, text in (("memory.max", "1000000"), ("memory.current", "0"), ("cpu.max", "250000 100000")):
        (tmp_path / name).write_text(text)
    limited = machine.limits()
    assert (limited.memory, limited.cpu_quota) == (1_000_000, 2.5)
