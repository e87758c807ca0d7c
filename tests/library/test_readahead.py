"""Read-ahead: the right bytes whatever is expected, in bounded memory, and an end when it is stopped."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import pytest

from localllm.convert.files import Range
from localllm.errors import Cancelled, DownloadFailed
from localllm.library import readahead
from localllm.library.readahead import ReadAhead

CONTENT = {"a": random.Random(1).randbytes(300_000), "b": random.Random(2).randbytes(70_001)}
SIZES = {name: len(data) for name, data in CONTENT.items()}


class Far:
    """Files that count what is fetched of them."""

    def __init__(self) -> None:
        self.fetched: list[Range] = []
        self.gate = threading.Event()
        self.gate.set()

    def fetch(self, file: str, start: int, target: memoryview) -> None:
        self.gate.wait(10)
        self.fetched.append((file, start, len(target)))
        target[:] = CONTENT[file][start : start + len(target)]

    @property
    def bytes(self) -> int:
        return sum(size for _, _, size in self.fetched)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Far:
    monkeypatch.setattr(readahead, "PIECE", 4096)
    monkeypatch.setattr(readahead, "PAGE", 64)
    monkeypatch.setattr(readahead, "GROUP", 20_000)
    monkeypatch.setattr(readahead, "ROOM", 40_960)
    return Far()


@pytest.fixture
def make(far: Far) -> Iterator[Callable[[], ReadAhead]]:
    made: list[ReadAhead] = []

    def build() -> ReadAhead:
        made.append(ReadAhead(SIZES, far.fetch))
        return made[-1]

    yield build
    far.gate.set()
    for ahead in made:
        ahead.stop()
        ahead.join(10)


def read(ahead: ReadAhead, file: str, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: ahead.read_into(file, offset, memoryview(buffer))])


EVERYTHING = [("a", 0, SIZES["a"]), ("b", 0, SIZES["b"])]


@pytest.mark.parametrize("expected", [[], EVERYTHING, EVERYTHING[::-1], [("a", 5000, 100), ("a", 90_000, 60_000)]])
def test_any_range_is_read_whatever_was_expected(make: Callable[[], ReadAhead], expected: list[Range]) -> None:
    ahead, chance = make(), random.Random(3)
    ahead.expect(expected)
    for _ in range(200):
        file = chance.choice("ab")
        offset, size = chance.randrange(SIZES[file] + 10), chance.choice((1, 8, 900, 30_000))
        assert read(ahead, file, offset, size) == CONTENT[file][offset : offset + size]


def test_what_is_read_in_the_expected_order_is_fetched_once(make: Callable[[], ReadAhead], far: Far) -> None:
    ahead = make()
    ahead.expect(EVERYTHING)
    for file in CONTENT:
        for offset in range(0, SIZES[file], 1000):
            assert read(ahead, file, offset, 1000) == CONTENT[file][offset : offset + 1000]
    assert far.bytes == sum(SIZES.values())


def test_only_what_is_expected_is_fetched_and_neighbours_at_once(make: Callable[[], ReadAhead], far: Far) -> None:
    ahead = make()
    ahead.expect([("a", 9000, 500), ("b", 10, 8), ("a", 9500, 500), ("a", 10_010, 90)])
    assert read(ahead, "a", 9000, 1100) == CONTENT["a"][9000:10_100]
    assert read(ahead, "b", 10, 8) == CONTENT["b"][10:18]
    assert sorted(far.fetched) == [("a", 9000, 1100), ("b", 10, 8)]


def test_no_more_is_fetched_ahead_than_there_is_room_for(make: Callable[[], ReadAhead], far: Far) -> None:
    ahead = make()
    ahead.expect([("a", 0, SIZES["a"])])
    read(ahead, "a", 0, 1)
    for _ in range(1000):
        if far.bytes >= readahead.ROOM - readahead.PIECE:
            break
        threading.Event().wait(0.005)
    threading.Event().wait(0.05)
    assert readahead.ROOM - readahead.PIECE <= far.bytes <= readahead.ROOM
    read(ahead, "a", 250_000, 100)  # what nobody expected now is fetched although there is no room
    assert sum(piece.size for piece in ahead._held) <= readahead.ROOM + readahead.PIECE


def test_a_tensor_that_is_read_column_by_column_is_fetched_about_once(make: Callable[[], ReadAhead], far: Far) -> None:
    ahead = make()
    ahead.expect(EVERYTHING)
    for column in range(0, 1000, 100):
        for row in range(0, SIZES["a"], 1000):
            assert read(ahead, "a", row + column, 100) == CONTENT["a"][row + column : row + column + 100]
    assert read(ahead, "b", 0, SIZES["b"]) == CONTENT["b"]
    assert far.bytes < 2 * sum(SIZES.values())


def test_threads_that_read_at_once_get_their_bytes(make: Callable[[], ReadAhead]) -> None:
    ahead, wrong = make(), []
    ahead.expect(EVERYTHING)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(100):
            offset = chance.randrange(SIZES["a"])
            if read(ahead, "a", offset, 6000) != CONTENT["a"][offset : offset + 6000]:
                wrong.append(offset)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_stopping_ends_a_read_that_waits(make: Callable[[], ReadAhead], far: Far) -> None:
    ahead, raised = make(), []
    far.gate.clear()

    def wait() -> None:
        try:
            read(ahead, "a", 0, 10)
        except Cancelled as error:
            raised.append(error)

    reader = threading.Thread(target=wait)
    reader.start()
    ahead.stop()
    reader.join(10)
    assert len(raised) == 1


def test_an_error_of_fetching_reaches_whoever_reads() -> None:
    def fail(file: str, start: int, target: memoryview) -> None:
        raise DownloadFailed("no network")

    ahead = ReadAhead(SIZES, fail)
    with pytest.raises(DownloadFailed, match="no network"):
        read(ahead, "a", 0, 10)
    ahead.stop()
    ahead.join(10)
