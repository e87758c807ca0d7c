#!/usr/bin/env python3
"""What the terminal app costs while a reply streams in: interface CPU, the worst stall, the time to the first picture.

The real app runs in a pseudo-terminal over a model that says 100 pieces of four characters a second, with more and more
old messages above. `cpu` is the share of one core that the interface's thread takes, `process` that of the whole
process; `stall` is the longest that the event loop could not do anything else, in milliseconds; `paint` is from
starting Python until the first picture has arrived in the terminal. The same of the command `localllm chat`, with
the default model loading behind it, is measured last. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

PIECES_PER_S = 100

NO_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"
"""Without byte code each start compiles all modules, which an installed program does not."""

SETTLE_S = 1.5
"""How long the model goes on loading before the command is ended: the next start is not to share the cores with it."""

PARAGRAPH = """## A heading

Some text with **strong words**, *others* and `code`, long enough to be wrapped at least twice in a terminal of usual
width, because that is what models write most of the time when they are asked about anything at all.

- one point about this
- another point, with more to say about it than the first one had
  - and a point below it

```python
def area(radius: float) -> float:
    \"\"\"The area of a circle.\"\"\"
    return 3.14159 * radius**2  # close enough
```

| Quantity | Value |
|----------|------:|
| radius   |   2.0 |
| area     | 12.57 |

"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=int, nargs="*", default=[0, 100, 1000], metavar="N", help="old messages above")
    parser.add_argument("--characters", type=int, default=6000, metavar="N", help="length of the reply")
    parser.add_argument("--size", default="120x36", metavar="WxH", help="of the terminal (default: 120x36)")
    parser.add_argument("--starts", type=int, default=5, metavar="N", help="starts of the command (default: 5)")
    parser.add_argument("--inside", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside is not None:
        run_inside(args.inside, args.characters)
        return 0
    width, height = (int(part) for part in args.size.split("x"))
    results = []
    environment = {name: value for name, value in os.environ.items() if name != NO_BYTE_CODE}
    subprocess.run([sys.executable, "-c", "import localllm.tui.app"], env=environment, check=True)
    print(f"{'old messages':>12} {'cpu':>7} {'process':>8} {'stall':>8} {'paint':>8}")
    for old in args.old:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "chats.sqlite3"
            write_messages(path, old)
            arguments = ["--inside", str(path), "--characters", str(args.characters)]
            result = {"old": old} | run_in_terminal(arguments, width, height)
        results.append(result)
        print(
            f"{old:>12,} {result['cpu']:>7.1%} {result['process']:>8.1%} {result['stall_ms']:>5.0f} ms"
            f" {result['paint_s']:>6.2f} s",
            flush=True,
        )
    starts = [start_of_command(width, height) for _ in range(args.starts)]
    if starts:
        middle = statistics.median(starts)
        print(f"localllm chat: first picture after {middle:.2f} s ({min(starts):.2f} to {max(starts):.2f} s)")
    document = {"size": args.size, "pieces_per_s": PIECES_PER_S, "results": results, "start_s": starts}
    print(json.dumps(document))
    return 0


def run_in_terminal(arguments: Sequence[str], width: int, height: int, script: Path = Path(__file__)) -> dict[str, Any]:
    """Run `script` in a terminal of its own, reading all it draws. Returns its result with the time to paint."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    began = time.monotonic()
    process, terminal = pty.fork()
    if process == 0:
        os.environ.pop(NO_BYTE_CODE, None)
        os.environ["BENCH_RESULT"] = str(writing)
        os.execv(sys.executable, [sys.executable, str(script), *arguments])
    os.close(writing)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    drawn, painted, answer = b"", 0.0, b""
    while True:
        ready, _, _ = select.select([terminal, reading], [], [])
        if terminal in ready:
            try:
                drawn = drawn[-4096:] + os.read(terminal, 1 << 16)
            except OSError:
                break
            if not painted and b"rite a message" in drawn:
                painted = time.monotonic() - began
        elif reading in ready:
            part = os.read(reading, 1 << 16)
            answer += part
            if not part:
                # It is over when the terminal is: until then there is output to read.
                reading = terminal
    os.waitpid(process, 0)
    if not answer:
        raise SystemExit(f"The app ended early:\n{drawn.decode(errors='replace')}")
    result: dict[str, Any] = json.loads(answer)
    return result | {"paint_s": painted}


def start_of_command(width: int, height: int) -> float:
    """Start `localllm chat` in a home of its own. Returns the seconds until its first picture, and ends it."""
    with tempfile.TemporaryDirectory() as home:
        began = time.monotonic()
        process, terminal = pty.fork()
        if process == 0:
            os.environ.pop(NO_BYTE_CODE, None)
            os.environ["LOCALLLM_HOME"] = home
            os.execv(sys.executable, [sys.executable, "-m", "localllm", "chat"])
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        drawn = b""
        try:
            while b"rite a message" not in drawn:
                drawn = drawn[-4096:] + os.read(terminal, 1 << 16)
            painted = time.monotonic() - began
            time.sleep(SETTLE_S)
        except OSError:
            raise SystemExit(f"The command ended early:\n{drawn.decode(errors='replace')}") from None
        finally:
            os.kill(process, signal.SIGKILL)
            os.close(terminal)
            os.waitpid(process, 0)
    return painted


def write_messages(path: Path, count: int) -> None:
    """Write a chat of `count` messages."""
    from localllm.chat.conversation import Conversation
    from localllm.chat.store import Store

    store, chat = Store.open(path), Conversation()
    for number in range(count // 2):
        store.add(chat, chat.add_user(f"Question {number}"))
        reply = chat.add_reply(chat.path()[-1].id)
        chat.extend(reply.id, PARAGRAPH)
        store.add(chat, chat.finish(reply.id, None))
    store.close()


def run_inside(path: Path, characters: int) -> None:
    """Run the app over the chat at `path`, stream a reply into it, and write what that cost to the parent."""
    from localllm.chat.store import Store
    from localllm.tui.app import ChatApp
    from localllm.tui.loader import Wanted
    from localllm.tui.messages import ChatOpened, PromptSent

    text = (PARAGRAPH * (characters // len(PARAGRAPH) + 1))[:characters]
    store = Store.open(path)

    class Measured(ChatApp):
        result: dict[str, Any]

        def on_ready(self) -> None:
            self.run_worker(self.measure())

        async def measure(self) -> None:
            await asyncio.sleep(0.5)
            for chat in store.chats():
                self.chat.post_message(ChatOpened(store.load(chat.id)))
            await asyncio.sleep(1.0)
            self.chat.post_message(PromptSent("Tell me all about it"))
            while not self.chat.busy:
                await asyncio.sleep(0.01)
            wall, thread, process = time.monotonic(), time.thread_time(), time.process_time()
            stall = await worst_stall(lambda: not self.chat.busy)
            wall = time.monotonic() - wall
            self.result = {
                "cpu": (time.thread_time() - thread) / wall,
                "process": (time.process_time() - process) / wall,
                "stall_ms": stall * 1000,
                "wall_s": wall,
            }
            self.exit()

    app = Measured(lambda _wanted, _progress: Talker(text), Wanted(Path()), store)
    app.run()
    app.close()
    store.close()
    with os.fdopen(int(os.environ["BENCH_RESULT"]), "w") as result:
        json.dump(app.result, result)


async def worst_stall(over: Callable[[], bool]) -> float:
    """The longest time beyond what was asked that a short sleep took, until `over()`, in seconds."""
    worst = 0.0
    while not over():
        began = time.monotonic()
        await asyncio.sleep(0.01)
        worst = max(worst, time.monotonic() - began - 0.01)
    return worst


class Talker:
    """A model that says one text, a piece of four characters at a time, at a steady rate."""

    def __init__(self, text: str) -> None:
        from localllm.runtime.options import Options
        from localllm.runtime.sampling import Sampling
        from localllm.runtime.types import MemorySample, ModelInfo, Plan

        self.sampling = Sampling()
        self.text, self.stats, self.progress, self.pieces = text, None, None, 0
        self.info = ModelInfo("talker", Path(), "none", "F32", 0, 0, 8192, 8192, 1, 0, 1, True)
        self.plan = Plan(Path(), Options(n_ctx=8192), (), exact=True)
        self._sample = MemorySample(1 << 27, 1 << 27, 1 << 20, 1 << 27, 1 << 25, 1 << 28, 1 << 33, 1 << 34)

    def reply(self, *_messages: object, **_options: object) -> Talker:
        return self

    def __iter__(self) -> Iterator[str]:
        began = time.monotonic()
        for number, start in enumerate(range(0, len(self.text), 4)):
            time.sleep(max(0.0, began + number / PIECES_PER_S - time.monotonic()))
            self.pieces = number + 1
            yield self.text[start : start + 4]

    def __next__(self) -> str:
        raise StopIteration

    def tokenize(self, text: str) -> list[int]:
        return [0] * len(text)

    def memory(self) -> Any:
        return self._sample

    def context_used(self) -> int:
        return 100

    def foresee(self, messages: Sequence[Any]) -> Any:
        from localllm.runtime.types import Forecast

        return Forecast(200, 100, (0,) * len(messages))

    def what_if(self, _options: object) -> Any:
        return self.plan

    def cancel(self) -> None:
        self.text = ""

    def when_lost(self, _tell: object) -> None:
        """It never is."""

    def close(self) -> None:
        self.text = ""


if __name__ == "__main__":
    sys.exit(main())
