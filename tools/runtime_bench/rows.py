"""The rows: each measures us and others in turns, and says what came out."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import psutil

from localllm.measure.tune import tune
from localllm.runtime import tuned
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.plan import make_plan
from localllm.runtime.process import ModelProcess
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import Message
from runtime_bench.peers import Answer, LlamaCppPython, Messages, Server, llama_bench
from runtime_bench.result import Result, column, in_turns
from runtime_bench.texts import EDITING, QUESTIONS, QUOTING, SYSTEM, TELLING, TOPICS, prompt_of

GREEDY = Sampling(temperature=0)
N_CTX, DEEP, SHALLOW, TOKENS = 4096, 2048, 512, 128


@dataclass(frozen=True)
class Bench:
    """What all rows share."""

    model: Path
    bin: Path
    threads: int
    rounds: int

    def server(self, n_ctx: int, *flags: str) -> Server:
        return Server(self.bin / "llama-server", self.model, self.threads, n_ctx, *flags)

    def options(self, n_ctx: int = N_CTX, flash_attention: bool | None = None) -> Options:
        return Options(n_ctx=n_ctx, threads=self.threads, flash_attention=flash_attention, tuned=False)


def decode_and_prefill(bench: Bench) -> list[Result]:
    """One stream beside `llama-bench`, which neither samples nor makes text, with and without flash attention.

    With as large a context as `llama-bench` makes: without flash attention each row of V is as long as the context, and
    one of 4,096 costs a tenth of the decoding, there too.
    """
    program, results = bench.bin / "llama-bench", []
    n_ctx = SHALLOW + TOKENS
    for attention in (True, False):
        with Model.load(bench.model, bench.options(n_ctx, attention)) as model:
            prompt = prompt_of(bench.model, SHALLOW)
            shared = ("-t", str(bench.threads), "-fa", str(int(attention)))

            def ours(model: Model = model, prompt: str = prompt) -> tuple[float, ...]:
                return complete(model, prompt)

            def theirs(shared: tuple[str, ...] = shared) -> tuple[float, ...]:
                prefill = llama_bench(program, bench.model, *shared, "-p", str(SHALLOW), "-n", "0")
                depth = ("-p", "0", "-n", str(TOKENS), "-d", str(SHALLOW))
                return prefill, llama_bench(program, bench.model, *shared, *depth)

            ours()  # the first one starts threads
            mine, other = in_turns(bench.rounds, ours, theirs)
        name = f"flash attention {'on' if attention else 'off'}"
        for index, what, goal in ((1, f"decode at {SHALLOW}, {name}", 0.98), (0, f"prefill {SHALLOW}, {name}", 0.97)):
            results.append(Result(what, "`llama-bench`", "t/s", column(mine, index), column(other, index), goal))
    return results


def deep_and_tuned(bench: Bench) -> list[Result]:
    """With what `localllm tune` finds, beside `llama-server` with its defaults."""
    choice = tuned.find(bench.model, Options()) or tune(bench.model).choice
    print(f"tuned: {choice}", file=sys.stderr)
    with (
        Model.load(bench.model, Options(n_ctx=N_CTX, tuned=False, **asdict(choice))) as model,
        bench.server(N_CTX) as server,
    ):
        prompt = prompt_of(bench.model, DEEP)
        complete(model, prompt)
        server.complete(prompt, TOKENS)
        mine, other = in_turns(bench.rounds, lambda: complete(model, prompt), lambda: server.complete(prompt, TOKENS))
    return [
        Result(f"decode at {DEEP:,}, tuned", "`llama-server`", "t/s", column(mine, 1), column(other, 1), 1.35),
        Result(f"prefill {DEEP:,}, tuned", "`llama-server`", "t/s", column(mine, 0), column(other, 0), 0.97),
    ]


def chat_turns(bench: Bench) -> list[Result]:
    """Time to the first token of the later turns of one chat."""
    with Model.load(bench.model, bench.options()) as model, bench.server(N_CTX) as server:

        def ours() -> tuple[float, ...]:
            model.forget()
            return _later_turns(lambda messages, tokens: ask(model, messages, tokens))

        def theirs() -> tuple[float, ...]:
            return _later_turns(server.chat)

        mine, other = in_turns(bench.rounds, ours, theirs)
    ms = [tuple(1000 * seconds for seconds in column(side, 0)) for side in (mine, other)]
    return [Result("first token, turns 2 to 6 of a chat", "`llama-server`", "ms", ms[0], ms[1], 1.0, False)]


def _later_turns(chat: Callable[[Messages, int], Answer]) -> tuple[float, ...]:
    messages, times = [{"role": "system", "content": SYSTEM}], []
    for number in range(6):
        question = QUESTIONS[number % len(QUESTIONS)].format(TOPICS[number])
        messages.append({"role": "user", "content": question})
        answer = chat(messages, 48)
        messages.append({"role": "assistant", "content": answer.text})
        times.append(answer.ttft)
    return (statistics.median(times[1:]),)


def conversations(bench: Bench) -> list[Result]:
    """Eight chats in turns, of four turns each: tokens per second of all, and time to the first token."""
    n_ctx = 8192
    with ExitStack() as stack:
        model = stack.enter_context(Model.load(bench.model, bench.options(n_ctx)))
        one = stack.enter_context(bench.server(n_ctx, "-np", "1"))
        eight = stack.enter_context(bench.server(n_ctx, "-np", "8"))
        python = stack.enter_context(LlamaCppPython(bench.model, bench.threads, n_ctx))

        def ours() -> tuple[float, ...]:
            model.forget()
            return _alternate(lambda messages, tokens: ask(model, messages, tokens))

        sides = (ours, *(lambda peer=peer: _alternate(peer.chat) for peer in (one, eight, python)))
        mine, *others = in_turns(bench.rounds, *sides)
    results = []
    names = ("`llama-server -np 1`", "`llama-server -np 8`", "`llama-cpp-python`")
    for name, other in zip(names, others, strict=True):
        results.append(Result("8 conversations", name, "t/s", column(mine, 0), column(other, 0), 1.0))
        results.append(
            Result("8 conversations, first token", name, "ms", column(mine, 1), column(other, 1), 1.0, False)
        )
    return results


def _alternate(chat: Callable[[Messages, int], Answer]) -> tuple[float, ...]:
    """(tokens per second, median milliseconds to the first token of all turns but the first)."""
    chats: list[Messages] = [[{"role": "system", "content": SYSTEM}] for _ in TOPICS]
    tokens, times, started = 0, [], time.perf_counter()
    for turn, question in enumerate(QUESTIONS):
        for messages, topic in zip(chats, TOPICS, strict=True):
            messages.append({"role": "user", "content": question.format(topic)})
            answer = chat(messages, 48)
            messages.append({"role": "assistant", "content": answer.text})
            tokens += answer.tokens
            if turn:
                times.append(answer.ttft)
    return tokens / (time.perf_counter() - started), 1000 * statistics.median(times)


def drafting(bench: Bench) -> list[Result]:
    """Guesses from the text itself, beside ourselves without: text that repeats, and text that does not."""
    results = []
    with (
        Model.load(bench.model, replace(bench.options(), draft="ngram")) as with_guesses,
        Model.load(bench.model, bench.options()) as without,
    ):
        for what, prompt, sampling, goal in (
            ("quoting", QUOTING, GREEDY, 1.3),
            ("editing code", EDITING, GREEDY, 1.3),
            ("telling a story", TELLING, Sampling(temperature=0.8, seed=7), 0.97),
        ):

            def decode(model: Model, prompt: str = prompt, sampling: Sampling = sampling) -> tuple[float, ...]:
                return complete(model, prompt, sampling, least=32)[1:]

            mine, other = in_turns(bench.rounds, partial(decode, with_guesses), partial(decode, without))
            found = (column(mine, 0), column(other, 0))
            results.append(Result(f"{what}, `--draft ngram`", "`--draft off`", "t/s", *found, goal))
    return results


def memory(bench: Bench) -> list[Result]:
    """Resident memory after a prompt was answered, with the same context. Ours is the engine's process.

    Picked as the model recommends, as in a chat: for the likeliest tokens numpy takes 12 MiB more.
    """

    def resident(pid: int) -> float:
        return psutil.Process(pid).memory_info().rss / 2**20

    with ModelProcess.load(bench.model, bench.options()) as model, bench.server(N_CTX) as server:
        prompt = prompt_of(bench.model, SHALLOW)
        "".join(model.complete(prompt, max_tokens=16))
        server.complete(prompt, 16)
        ours, theirs, plan = (
            resident(model.pid),
            resident(server.pid),
            make_plan(bench.model, bench.options()).total / 2**20,
        )
    return [
        Result("resident memory", "`llama-server`", "MiB", (ours,), (theirs,), 1.05, False),
        Result("resident memory", "our plan", "MiB", (ours,), (plan,), 1.05, False),
    ]


def loading(bench: Bench) -> list[Result]:
    """Wall time of a Python that imports, loads and ends. Both have been compiled to byte code before, as installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    path, n = str(bench.model), bench.threads
    ours = f"import localllm, os; localllm.load({path!r}, n_ctx={N_CTX}, threads={n}); os._exit(0)"
    theirs = f"from llama_cpp import Llama; import os; Llama({path!r}, n_ctx={N_CTX}, n_threads={n}, verbose=False); "

    def seconds(code: str) -> tuple[float, ...]:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
        return (time.perf_counter() - started,)

    seconds(ours)
    mine, other = in_turns(2 * bench.rounds, lambda: seconds(ours), lambda: seconds(theirs + "os._exit(0)"))
    return [Result("import and load", "`llama-cpp-python`", "s", column(mine, 0), column(other, 0), 1.0, False)]


ROWS: dict[str, Callable[[Bench], list[Result]]] = {
    "bench": decode_and_prefill,
    "tuned": deep_and_tuned,
    "chat": chat_turns,
    "conversations": conversations,
    "draft": drafting,
    "memory": memory,
    "load": loading,
}


def complete(model: Model, prompt: str, sampling: Sampling = GREEDY, least: int = TOKENS) -> tuple[float, float]:
    """(prefill, decode) in tokens per second, sampling and text included; nothing is taken from the cache."""
    model.forget()
    reply = model.complete(prompt, sampling=sampling, max_tokens=TOKENS)
    for _ in reply:
        pass
    stats = reply.stats
    if stats is None or stats.completion_tokens < least:
        raise SystemExit(f"the model ended after {stats.completion_tokens if stats else 0} tokens: choose another one")
    return stats.prefill_tps, stats.decode_tps


def ask(model: Model, messages: Messages, max_tokens: int) -> Answer:
    """A reply as its reader sees it."""
    started, first, text = time.perf_counter(), 0.0, ""
    reply = model.reply([Message(**message) for message in messages], sampling=GREEDY, max_tokens=max_tokens)
    for piece in reply:
        first = first or time.perf_counter()
        text += piece
    ended = time.perf_counter()
    return Answer(
        (first or ended) - started, ended - started, reply.stats.completion_tokens if reply.stats else 0, text
    )
