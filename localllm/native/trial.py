"""Whether llama.cpp takes a file, asked in a process of its own: what is damaged can end the process that loads it.

Reads no weights. Loads the model and its vocabulary, and reads some texts with it. Imports little: it is started often.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from localllm import paths
from localllm.errors import ERRORS, BadModelFile, LocalLLMError
from localllm.native import handles
from localllm.native.vocab import Vocab

# Not `-m`: that would look for modules in the current folder first, which may be a folder of downloads.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from localllm.native.trial import main; main(sys.argv[2])"
)
_ASSERTION = re.compile(r"GGML_(?:ASSERT|ABORT)\(.*|terminate called.*|what\(\):.*")


def try_file(path: Path, texts: Sequence[str]) -> None:
    """Let llama.cpp load the model at `path`, without its weights, and make token ids of some texts.

    Raises:
        BadModelFile: it refuses, or the process ends while it tries.
        UnsupportedModel: an architecture or tokenizer that this llama.cpp does not know.
        DoesNotFit: there is too little memory to tell.
    """
    # An abort in ggml would start a debugger to print a backtrace: slow, and nobody reads it.
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(paths.search_path()), str(path)],
        input=json.dumps(list(texts)).encode(),
        capture_output=True,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
        check=False,
    )
    told = done.stdout.decode("utf-8", "replace").strip().rpartition("\n")[2]
    if done.returncode == 0 and told:
        error = json.loads(told)
        if error:
            raise ERRORS[error["kind"]](error["message"], hint=error["hint"])
        return
    assertion = _ASSERTION.search(done.stderr.decode("utf-8", "replace"))
    reason = assertion.group(0) if assertion else f"it ended with the code {done.returncode}"
    raise BadModelFile(
        f"{path}: llama.cpp ends the whole process while it loads it: {reason}",
        hint="The file is damaged: fetch or convert it again.",
    )


def main(path: str) -> None:
    """What the process does: prints one line of JSON, empty when all is well."""
    found = {}
    try:
        handles.open_model(Path(path), simulate=True).close()
        with handles.open_model(Path(path), vocab_only=True) as model:
            vocab = Vocab(model)
            for text in json.load(sys.stdin):
                vocab.tokenize(text, add_special=True, parse_special=True)
            vocab.template_tokens()
    except LocalLLMError as error:
        found = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    print(json.dumps(found), flush=True)
    os._exit(0)
