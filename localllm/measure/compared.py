"""What a comparison found, as rows of figures, as Markdown and as JSON. Measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from localllm.errors import Cancelled
from localllm.measure.comparing import Answer, Request
from localllm.measure.parting import Parting, part
from localllm.runtime.types import MemorySample, ModelInfo, Plan, Stats, mib

ENDINGS = {
    "end": "the model ended it",
    "stop": "a stop string came",
    "length": "cut at the limit of tokens",
    "context": "the context is full",
    "cancelled": "stopped",
}
UNKNOWN = "-"


def figures(answer: Answer) -> list[tuple[str, str]]:
    """The figures of one answer, each with its name: the same names in the same order for every answer."""
    stats, info, plan, memory = answer.stats, answer.info, answer.plan, answer.memory
    about = "" if plan is None or plan.exact else "about "
    return [
        ("decode", _of(stats, lambda it: f"{_rate(it.decode_tps)}, {_tokens(it.completion_tokens)}")),
        ("prefill", _of(stats, lambda it: f"{_rate(it.prefill_tps)}, {_tokens(it.prompt_tokens - it.cached_tokens)}")),
        ("first token", _of(stats, _first_token)),
        ("weights", _of(plan, lambda it: about + mib(part_of(it, "weights")) + _resident(it, memory))),
        ("KV cache", _of(plan, lambda it: about + mib(part_of(it, "kv")) + _kv_used(memory))),
        ("compute", _of(plan, lambda it: about + mib(part_of(it, "compute")))),
        ("process", _of(memory, lambda it: f"{mib(it.process)} in RAM")),
        ("file", _of(info, _file)),
        ("context", _of(info, lambda it: f"{it.n_ctx:,} tokens")),
        ("ended", _ending(answer)),
    ]


def part_of(plan: Plan, name: str) -> int:
    """Bytes of `weights`, `kv` or `compute` on all devices."""
    return sum(int(getattr(device, name)) for device in plan.devices)


def partings(answers: Sequence[Answer]) -> list[Parting | None]:
    """Where each answer but the first parts from the first, whatever was thought before."""
    return [part(answers[0].parted.answer, other.parted.answer) for other in answers[1:]]


def verdicts(answers: Sequence[Answer]) -> list[str]:
    """A sentence for each answer but the first: how it stands to the first one. None where one is empty."""
    first = answers[0]
    return [
        _verdict(first, other, parting)
        for other, parting in zip(answers[1:], partings(answers), strict=True)
        if first.parted.answer.strip() and other.parted.answer.strip()
    ]


def as_markdown(request: Request, answers: Sequence[Answer]) -> str:
    """The prompt, a table of all figures, and the texts, with folded thoughts."""
    rows = [["", *(_cell(answer.contender.name) for answer in answers)], ["---"] * (len(answers) + 1)]
    columns = [figures(answer) for answer in answers]
    rows += [[cells[0][0], *(_cell(value) for _, value in cells)] for cells in zip(*columns, strict=True)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    quoted = "\n".join(f"> {line}".rstrip() for line in request.prompt.splitlines())
    texts = [f"## {answer.contender.name}\n\n{_text(answer)}" for answer in answers]
    return "\n\n".join([quoted, table, *verdicts(answers), *texts]) + "\n"


def as_json(request: Request, answers: Sequence[Answer]) -> dict[str, Any]:
    """Everything for programs; sizes in bytes. `partings` has one for each answer but the first, null for the same."""
    return {
        "prompt": request.prompt,
        "system": request.system,
        "max_tokens": request.max_tokens,
        "seed": request.sampling.seed,
        "answers": [_answer(answer) for answer in answers],
        "partings": [None if parting is None else asdict(parting) for parting in partings(answers)],
    }


def _text(answer: Answer) -> str:
    """What was said, or why nothing was."""
    said = answer.parted.folded.strip()
    return said if answer.parted.answer.strip() else f"{said}\n\n{_ending(answer)}".lstrip()


def _answer(answer: Answer) -> dict[str, Any]:
    info, plan, said = answer.info, answer.plan, answer.parted
    return {
        "model": answer.contender.name,
        "path": str(answer.contender.path),
        "quantization": info.quantization if info is not None else None,
        "file_bytes": info.file_bytes if info is not None else None,
        "ctx": info.n_ctx if info is not None else None,
        "text": answer.text,
        "thought": said.thought,
        "answer": said.answer,
        "stats": asdict(answer.stats) if answer.stats is not None else None,
        "plan": {name: part_of(plan, name) for name in ("weights", "kv", "compute")} if plan is not None else None,
        "memory": asdict(answer.memory) if answer.memory is not None else None,
        "sampling": asdict(answer.sampling) if answer.sampling is not None else None,
        "notes": list(plan.notes) if plan is not None else [],
        "error": str(answer.error) if answer.error is not None else None,
    }


def _of(value: Any, told: Callable[[Any], str]) -> str:
    return UNKNOWN if value is None else told(value)


def _rate(per_second: float) -> str:
    return f"{per_second:,.1f} tok/s" if per_second else f"{UNKNOWN} tok/s"


def _tokens(count: int) -> str:
    return f"{count:,} token{'' if count == 1 else 's'}"


def _first_token(stats: Stats) -> str:
    # What was computed before makes it sooner: not to be compared with one that read all.
    reused = f", {_tokens(stats.cached_tokens)} reused" if stats.cached_tokens else ""
    return f"{stats.ttft_s:.2f} s{reused}"


def _resident(plan: Plan, memory: MemorySample | None) -> str:
    if memory is None or memory.weights_resident is None:
        return ""
    # Pages of what was copied out of the file may be in RAM as well.
    held = min(part_of(plan, "weights"), memory.weights_resident + memory.weights_copied)
    return f", {mib(held)} in RAM"


def _kv_used(memory: MemorySample | None) -> str:
    return f", {mib(memory.kv_used)} used" if memory is not None else ""


def _file(info: ModelInfo) -> str:
    return f"{mib(info.file_bytes)}, {info.quantization or 'mixed types'}"


def _ending(answer: Answer) -> str:
    if isinstance(answer.error, Cancelled):
        return ENDINGS["cancelled"]
    if answer.error is not None:
        return answer.error.message
    return ENDINGS[answer.stats.stop_reason] if answer.stats is not None else UNKNOWN


def _verdict(first: Answer, other: Answer, parting: Parting | None) -> str:
    names = f"{first.contender.name} and {other.contender.name}"
    return f"{names} say the same." if parting is None else f"{names} {parting}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
