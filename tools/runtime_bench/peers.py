"""llama.cpp's own programs and llama-cpp-python, run as people run them, with the same file and threads."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Answer:
    """A reply as its reader sees it: seconds to the first piece of text and to the end, tokens, text."""

    ttft: float
    seconds: float
    tokens: int
    text: str


def llama_bench(program: Path, model: Path, *flags: str) -> float:
    """Tokens per second of one test of `llama-bench`."""
    command = [str(program), "-m", str(model), "-r", "1", "-o", "json", *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])


class Server:
    """A `llama-server` on a free port of the loopback. A context manager; leaving it ends the server."""

    def __init__(self, program: Path, model: Path, threads: int, n_ctx: int, *flags: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        command = [str(program), "-m", str(model), "-t", str(threads), "-c", str(n_ctx)]
        command += ["--host", "127.0.0.1", "--port", str(self._port), "--no-ui", *flags]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def complete(self, prompt: str, tokens: int) -> tuple[float, float]:
        """(prefill, decode) in tokens per second as the server itself times them; nothing is taken from its cache."""
        body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "cache_prompt": False, "ignore_eos": True}
        with self._post("/completion", body) as response:
            timings = json.loads(response.read())["timings"]
        return float(timings["prompt_per_second"]), float(timings["predicted_per_second"])

    def chat(self, messages: Messages, max_tokens: int) -> Answer:
        """A streamed reply, greedy."""
        body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": True}
        body["stream_options"] = {"include_usage": True}
        started, first, text, tokens = time.perf_counter(), 0.0, "", 0
        with self._post("/v1/chat/completions", body) as response:
            for line in response:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
                piece = next((choice["delta"].get("content") for choice in event["choices"]), None)
                if piece:
                    first = first or time.perf_counter()
                    text += piece
        ended = time.perf_counter()
        return Answer((first or ended) - started, ended - started, tokens, text)

    @contextlib.contextmanager
    def _post(self, path: str, body: dict[str, Any]) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise SystemExit(f"llama-server answers {response.status}: {response.read()[:500]!r}")
            yield response
        finally:
            connection.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise SystemExit(f"llama-server ended with code {self._process.returncode}")
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.1)
        raise SystemExit("llama-server does not get ready")


class LlamaCppPython:
    """`llama_cpp.Llama` in a process of its own. A context manager."""

    def __init__(self, model: Path, threads: int, n_ctx: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("llama_cpp_python.py")), str(model)]
        self._process = subprocess.Popen(
            [*command, str(threads), str(n_ctx)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()  # it is loaded

    def __enter__(self) -> LlamaCppPython:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def chat(self, messages: Messages, max_tokens: int) -> Answer:
        """A streamed reply, greedy, timed where it is made."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"messages": messages, "max_tokens": max_tokens}) + "\n")
        self._process.stdin.flush()
        return Answer(**self._read())

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("llama-cpp-python ended")
        found: dict[str, Any] = json.loads(line)
        return found
