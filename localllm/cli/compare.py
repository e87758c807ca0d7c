"""`localllm compare MODEL MODEL… PROMPT`: one prompt to several models, one after the other, with what each costs."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from localllm.cli import options, prompts, sampling_flags, table, values
from localllm.cli.interrupt import on_interrupt

if TYPE_CHECKING:
    from localllm.cli.speaker import Speaker
    from localllm.measure.comparing import Answer, Contender, Step
    from localllm.runtime.responder import Responder

MAX_TOKENS = 512

EPILOG = """examples:
  localllm compare smollm2:135m other.gguf "Why is the sky blue?"
  localllm compare model-Q8_0.gguf model-Q4_K_M.gguf model-Q2_K.gguf "Name three rivers."
  git diff | localllm compare a.gguf b.gguf "Write a commit message."
  localllm compare a.gguf b.gguf "Hi" --temperature 0.8 --seed 7
  localllm compare a.gguf b.gguf "Hi" --json    one JSON object for programs; sizes in bytes

Each model is loaded, answers and is freed before the next one is: at the same time they would share the cores and the
memory, and their rates would mean nothing. All sample in the same way, with one seed: greedily, unless --temperature or
the settings say otherwise, so that what differs is the models'. Memory is as planned and, beside it, as measured when
the answer was there.

What a model thinks before it answers goes to stderr; --json has text, thought and answer. Where two part is told of
their answers.

The last argument is the prompt, unless the prompt comes from a pipe and it is the name of a model.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `compare` command."""
    parser = commands.add_parser(
        "compare",
        help="one prompt, two models or quantizations: text, rates, memory",
        description="Ask several models the same, one after the other, and show what each said and what that took.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="localllm compare [options] MODEL MODEL... [PROMPT]",
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="MODEL",
        help="two or more models, each a path, a catalogue name or a model on this machine; then the prompt",
    )
    parser.add_argument("--system", metavar="TEXT", default="", help="system prompt")
    parser.add_argument(
        "--max-tokens",
        type=values.whole,
        default=MAX_TOKENS,
        metavar="N",
        help=f"at most N tokens each, 0 until they end (default: {MAX_TOKENS})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object; the texts go to stderr")
    sampling_flags.add(parser)
    options.add_engine_flags(parser)
    options.add_log_flags(parser)
    parser.set_defaults(handle=handle, usage_error=parser.error)


def handle(args: argparse.Namespace) -> int:
    """Compare. 1 if a model did not answer, 130 if the person stopped it."""
    names, prompt = _models_and_prompt(args)
    sampling = sampling_flags.sampling(args)
    from localllm import library
    from localllm.measure.compared import as_json
    from localllm.measure.comparing import Comparison, Contender, Request

    loaded_with = options.engine_options(args)
    found = [library.resolve(name) for name in names]
    contenders = [Contender.called(name, path, loaded_with) for name, path in zip(names, found, strict=True)]
    for contender in contenders:
        _check_template(contender)
    options.route_log(args)
    if sampling.temperature is None:
        sampling = replace(sampling, temperature=0.0)
    out = sys.stderr if args.json else sys.stdout
    comparison = Comparison(contenders, Request(prompt, sampling, args.system, args.max_tokens), InTurn())
    teller = _Teller(contenders, out)
    with on_interrupt(comparison.stop) as interrupted:
        answers = comparison.run(teller.hear)
    if answers:
        print(_summary(answers), file=out)
    if args.json:
        print(json.dumps(as_json(comparison.request, answers)))
    if interrupted.is_set():
        return 130
    return 1 if any(answer.error is not None for answer in answers) else 0


def _check_template(contender: Contender) -> None:
    """Refuse a model that nobody can chat with before any is loaded.

    Raises:
        BadTemplate: it is one.
    """
    from localllm.errors import BadModelFile
    from localllm.gguf_file import read_header

    # What is wrong with a file is told in its place, and the others answer.
    with contextlib.suppress(BadModelFile):
        contender.check_template(read_header(contender.path))


def _models_and_prompt(args: argparse.Namespace) -> tuple[list[str], str]:
    """The models that are named, and the prompt, of the last argument and a pipe.

    Raises:
        BadText: what came is no valid UTF-8.
    """
    piped = prompts.piped()
    *names, last = args.words
    if prompts.is_model(last, beside_a_pipe=bool(piped.strip())):
        names, prompt = args.words, piped
    else:
        prompt = prompts.joined(last, piped)
    if len(names) < 2:
        args.usage_error("a comparison needs two models, and then the prompt")
    if not prompt.strip():
        args.usage_error(f"there is no prompt: {last!r} was taken for a model; give one behind it or on stdin")
    return names, prompt


class InTurn:
    """Each model in a process of its own, which ends before the next one begins."""

    def open(self, contender: Contender, progress: Callable[[float], None], stopped: threading.Event) -> Responder:
        """Load it; see `Engines`."""
        from localllm.cli.chat import open_model
        from localllm.tui.loader import Wanted

        return open_model(Wanted(contender.path, contender.options), progress, stopped.is_set)

    def release(self, model: Responder) -> None:
        """Free it."""
        model.close()


class _Teller:
    """Prints what happens: the answers on `out`, all else on stderr, what a model thinks included."""

    def __init__(self, contenders: Sequence[Contender], out: TextIO) -> None:
        self._contenders = contenders
        self._out = out
        self._loading = -1
        self._speaker: Speaker | None = None

    def hear(self, number: int, step: Step) -> None:
        """Tell one step."""
        from localllm.cli.main import print_error
        from localllm.cli.speaker import Speaker
        from localllm.errors import Cancelled
        from localllm.measure.comparing import Answer, Loading, Reading, Said

        name = self._contenders[number].name
        if isinstance(step, Loading) and self._loading != number:
            self._loading = number
            print(f"{name}: loading", file=sys.stderr)
        elif isinstance(step, Reading):
            for note in step.plan.notes:
                print(f"note: {note}", file=sys.stderr)
            print(f"== {table.printable(name)} ==", file=self._out, flush=True)
            self._speaker = Speaker(step.info.opens_thought, shown=str, out=self._out)
        elif isinstance(step, Said) and self._speaker is not None:
            self._speaker.say(step.text)
        elif isinstance(step, Answer):
            if self._speaker is not None:
                self._speaker.end()
                self._speaker = None
            if step.text:
                print("\n", file=self._out, flush=True)
            if step.error is not None and not isinstance(step.error, Cancelled):
                print_error(step.error)


def _summary(answers: Sequence[Answer]) -> str:
    """The figures side by side, and where the texts part."""
    from localllm.measure.compared import figures, verdicts

    columns = [figures(answer) for answer in answers]
    rows = [["", *(answer.contender.name for answer in answers)]]
    rows += [[cells[0][0], *(value for _, value in cells)] for cells in zip(*columns, strict=True)]
    return "\n".join([*table.lines(rows), "", *map(table.printable, verdicts(answers))]).rstrip()
