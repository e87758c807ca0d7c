"""`localllm run [MODEL] [PROMPT]`: one answer, streamed to stdout; for people and for pipes."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from localllm.cli import options, prompts, sampling_flags, values
from localllm.cli.interrupt import on_interrupt
from localllm.counts import counted

if TYPE_CHECKING:
    from localllm.runtime.model import Model
    from localllm.runtime.process import ModelProcess
    from localllm.runtime.remote_reply import RemoteReply
    from localllm.runtime.reply import LocalReply
    from localllm.runtime.sampling import Sampling

EPILOG = """examples:
  localllm run "Name the capital of France."             the default model
  localllm run model.gguf "Name the capital of France."  a file
  git diff | localllm run smollm2:135m --system "Write a commit message."
  localllm run --raw "Once upon a time" --max-tokens 50  no chat template
  localllm run --json --temperature 0 "Hi"               one JSON object for programs
  localllm run "Is water wet?" --grammar 'root ::= "yes" | "no"'

One argument alone is the prompt, unless it is a file or the name of a model: then it is the model, and the prompt comes
on stdin. With both a prompt and a pipe, the prompt comes first and what was piped follows.

What a model thinks before it answers goes to stderr; --json has text, thought and answer, and --raw parts nothing.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `run` command."""
    parser = commands.add_parser(
        "run",
        help="one answer on stdout",
        description="Answer one prompt and stream the answer to stdout.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="path, catalogue name or model on this machine")
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what to say; read from stdin when piped")
    parser.add_argument("--system", metavar="TEXT", help="system prompt")
    parser.add_argument(
        "--max-tokens", type=values.whole, default=0, metavar="N", help="at most N tokens (default: until it ends)"
    )
    parser.add_argument("--raw", action="store_true", help="continue the prompt as it stands, without a chat template")
    parser.add_argument("--json", action="store_true", help="print one JSON object with the text and its cost")
    parser.add_argument(
        "--logprobs",
        type=values.tokens,
        metavar="N",
        help="with --json: the log-probability of each token, and of the N likeliest in its place",
    )
    sampling_flags.add(parser)
    options.add_engine_flags(parser)
    options.add_log_flags(parser)
    parser.set_defaults(handle=handle, usage_error=parser.error)


def handle(args: argparse.Namespace) -> int:
    """Answer."""
    model_name, prompt = _model_and_prompt(args)
    if not prompt:
        taken = f": {model_name!r} was taken for the model" if model_name else ""
        args.usage_error(f"there is no prompt{taken}; give it as an argument or on stdin")
    if args.raw and args.system:
        args.usage_error("--system needs a chat template, and --raw is without one")
    if args.logprobs is not None and not args.json:
        args.usage_error("--logprobs are told in JSON: add --json")
    sampling = sampling_flags.sampling(args)
    from localllm import library
    from localllm.runtime import tuned
    from localllm.runtime.apart import load

    path = library.resolve(model_name)
    options.route_log(args)
    with load(path, library.as_recommended(path, options.engine_options(args))) as model:
        told = model.notes
        for note in told:
            if args.verbose or not tuned.is_told_by(note):
                print(f"note: {note}", file=sys.stderr)
        code = _answer(model, prompt, sampling, args)
        for note in model.notes[len(told) :]:
            print(f"note: {note}", file=sys.stderr)
        return code


def _answer(model: Model | ModelProcess, prompt: str, sampling: Sampling, args: argparse.Namespace) -> int:
    from localllm.cli.speaker import Speaker
    from localllm.runtime.types import Message

    if args.raw:
        reply: LocalReply | RemoteReply = model.complete(prompt, sampling=sampling, max_tokens=args.max_tokens)
    else:
        system = [Message("system", args.system)] if args.system else []
        reply = model.reply([*system, Message("user", prompt)], sampling=sampling, max_tokens=args.max_tokens)
    speaker = None if args.raw or args.json else Speaker(model.info.opens_thought, shown=str)
    with on_interrupt(reply.cancel) as interrupted:
        for piece in reply:
            if speaker is not None:
                speaker.say(piece)
            elif not args.json:
                sys.stdout.write(piece)
                sys.stdout.flush()
    if speaker is not None:
        speaker.end()
    if args.json:
        print(_as_json(model, reply, raw=args.raw))
    elif not reply.text.endswith("\n"):
        print()
    for loss in reply.stats.losses if reply.stats is not None else ():
        print(f"note: {loss}.", file=sys.stderr)
    why = _why_cut(reply, args.max_tokens)
    if why:
        print(f"note: {why}", file=sys.stderr)
    return 130 if interrupted.is_set() else 0


def _why_cut(reply: LocalReply | RemoteReply, max_tokens: int) -> str:
    """Why the answer ends before the model ended it; nothing if it did, or a person stopped it."""
    from localllm.runtime.repetition import repeats_itself

    reason = reply.stats.stop_reason if reply.stats is not None else None
    if reason in ("context", "length") and repeats_itself(reply.text):
        end = "the context is full" if reason == "context" else f"it has {counted(max_tokens, 'token')}"
        remedies = "--repeat-penalty 1.1, a --system prompt or another model"
        return f"the answer repeats itself until {end}; {remedies} may help."
    if reason == "context":
        return "the context is full, so the answer ends here; --ctx makes it larger."
    if reason == "length" and sys.stderr.isatty():
        return f"the answer ends after {counted(max_tokens, 'token')}, as --max-tokens says."
    return ""


def _as_json(model: Model | ModelProcess, reply: LocalReply | RemoteReply, *, raw: bool) -> str:
    import json
    from dataclasses import asdict

    from localllm.runtime.thinking import Parted, parted

    said = Parted(None, False, reply.text) if raw else parted(reply.text, opened=model.info.opens_thought)
    answer: dict[str, object] = {
        "text": reply.text,
        "thought": said.thought,
        "answer": said.answer,
        "stats": asdict(reply.stats) if reply.stats is not None else None,
        "model": model.info.name,
        "path": str(model.info.path),
        "n_ctx": model.info.n_ctx,
        "notes": list(model.notes),
        "sampling": asdict(reply.sampling),
    }
    if reply.sampling.logprobs is not None:
        answer["logprobs"] = [asdict(token) for token in reply.logprobs]
    return json.dumps(answer)


def _model_and_prompt(args: argparse.Namespace) -> tuple[str | None, str]:
    """Tell the two positional arguments apart, and read the prompt from a pipe.

    Raises:
        BadText: what came is no valid UTF-8.
    """
    piped = prompts.piped()
    first, second = args.model, args.prompt
    if second is not None:
        return first, prompts.joined(second, piped)
    if first is not None and prompts.is_model(first, beside_a_pipe=bool(piped.strip())):
        return first, piped
    return None, piped if first is None else prompts.joined(first, piped)
