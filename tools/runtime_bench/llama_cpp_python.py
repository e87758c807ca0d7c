"""Chats with `llama_cpp.Llama`: requests as lines of JSON on stdin, answers on stdout. Started by `peers.py`.

llama_cpp_python.py MODEL THREADS CONTEXT
"""

from __future__ import annotations

import json
import sys
import time

from llama_cpp import Llama


def main() -> None:
    model, threads, n_ctx = sys.argv[1:]
    llama = Llama(model, n_threads=int(threads), n_ctx=int(n_ctx), verbose=False)
    print("{}", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        started, first, text, tokens = time.perf_counter(), 0.0, "", 0
        for event in llama.create_chat_completion(**request, temperature=0, stream=True):
            piece = event["choices"][0]["delta"].get("content")
            if piece:
                first = first or time.perf_counter()
                text, tokens = text + piece, tokens + 1  # it yields a piece for each token
        ended = time.perf_counter()
        answer = {"ttft": (first or ended) - started, "seconds": ended - started, "tokens": tokens, "text": text}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
