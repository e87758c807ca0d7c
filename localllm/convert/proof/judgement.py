"""What the comparison of tensors means, in words: whose file it is, what is missing, where it is damaged.

Knows what was found and computes nothing from weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from localllm.convert.header import Entry
from localllm.convert.plan import PlannedTensor
from localllm.convert.proof.alone import Problem
from localllm.convert.proof.checks import TensorCheck, is_damage
from localllm.convert.proof.weights import COMPARABLE, Pair
from localllm.convert.tensor import BLOCKS
from localllm.convert.transforms import rows_and_columns
from localllm.gguf_file import Header, TensorInfo

_SHOWN = 3
_FEW_ROWS = 16


@dataclass(frozen=True)
class Matched:
    """The tensors that are in the source and in the file alike, and what is wrong with the others."""

    pairs: tuple[Pair, ...]
    problems: tuple[Problem, ...]


def match(tensors: Sequence[PlannedTensor], names: Mapping[str, str], parts: Sequence[Header], title: str) -> Matched:
    """Find each tensor of the source in the file. `names` has what they are called there; the others were left out."""
    infos = {info.name: info for part in parts for info in part.tensors}
    wanted = {
        names[tensor.name]: replace(tensor, name=names[tensor.name]) for tensor in tensors if tensor.name in names
    }
    pairs, sizes, strange = [], [], []
    for name, info in infos.items():
        tensor = wanted.get(name)
        if tensor is None:
            continue
        if (tensor.rows, tensor.columns) != rows_and_columns(info.shape[::-1]):
            sizes.append(f"{name} is {_shape(info.shape)}, {title} gives {_shape(tensor.shape[::-1])}")
        elif info.type_name not in COMPARABLE or (info.type_name in BLOCKS and tensor.columns == 1):
            strange.append(f"{name} ({info.type_name})")
        else:
            pairs.append(Pair(tensor, _entry(info)))
    missing, unknown = [name for name in wanted if name not in infos], [name for name in infos if name not in wanted]
    said = [
        (missing, f"the file lacks {_count(missing)} of {title}"),
        (unknown, f"the file has {_count(unknown)} that {title} does not give"),
        (sizes, f"{_count(sizes)} of another size, as in another model"),
        (strange, f"{_count(strange)} of a type in which no weights are compared"),
    ]
    problems = tuple(Problem("tensors", f"{says}: {_some(names)}") for names, says in said if names)
    # In a model of another size what fits by chance says nothing.
    return Matched(tuple(pairs) if len(sizes) <= len(pairs) else (), problems)


def _entry(info: TensorInfo) -> Entry:
    return Entry(info.name, info.shape, info.type_name, info.offset, info.n_bytes)


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} tensors" if len(names) > 1 else "one tensor"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def judge(checks: Sequence[TensorCheck], parts: Sequence[Header], title: str) -> Iterator[Problem]:
    """What is wrong with the weights."""
    far = [check for check in checks if check.too_far]
    unsure = [check for check in checks if not check.identical]
    if len(far) >= _SHOWN and len(far) * 2 > len(unsure):
        worst = max(far, key=lambda check: check.found.loss.rmse)
        yield Problem(
            "tensors",
            f"the file holds other weights: {len(far)} of {len(checks)} tensors are further from those of {title} than "
            f"their types explain, {_off(worst)}; it is of another model, or of one that was trained further",
        )
        return
    places = {info.name: (part, info) for part in parts for info in part.tensors}
    for check in unsure:
        part, info = places[check.found.name]
        few = 0 < check.ruined <= max(_FEW_ROWS, check.rows // 100)
        if check.different and check.first is not None and is_damage(checks, check):
            yield _damaged(part, info, check, check.different, check.first, f"what {title} gives")
        elif few and check.first_ruined is not None and not check.different:
            yield _damaged(part, info, check, check.ruined, check.first_ruined, f"anything like those of {title}")
        elif check.too_far or check.ruined:
            yield Problem("tensors", f"{_off(check)}: it does not hold what {title} holds")


def _damaged(part: Header, info: TensorInfo, check: TensorCheck, count: int, first: int, what: str) -> Problem:
    rows = f"{count} of {check.rows:,} rows are" if count > 1 else f"one of {check.rows:,} rows is"
    at = info.offset + first * (info.n_bytes // check.rows)
    place = f"the first is row {first:,}" if count > 1 else f"row {first:,}"
    return Problem("tensors", f"{info.name} is damaged: {rows} not {what}, {place} at byte {at:,} of {part.path.name}")


def _off(check: TensorCheck) -> str:
    found = check.found
    return f"{found.name} ({found.type}) is off by {found.loss.rmse:.2%} where {check.expected or 0:.2%} is usual"


def remarks(checks: Sequence[TensorCheck], title: str, importance: str, given: bool) -> Iterator[str]:
    """What to tell of weights that are well enough. `importance` is the matrix that the file names, or empty."""
    coarse = [check for check in checks if check.coarser]
    if coarse:
        yield (
            f"{len(coarse)} of {len(checks)} tensors are compared only as far as {title} tells, where they are "
            f"{_source_types(coarse)}: what that has lost cannot be seen; the original checkpoint would tell more"
        )
    rounded = [check for check in checks if check.different and not is_damage(checks, check)]
    if rounded:
        yield (
            f"{sum(check.different for check in rounded):,} rows in {len(rounded)} tensors are rounded differently "
            "than here, no worse: they were quantized on another kind of processor, or by another version"
        )
    other = [check for check in checks if not check.remade and not check.coarser]
    if other and importance and not given:
        yield (
            f"{len(other)} tensors were quantized with the importance matrix {importance}: with --imatrix FILE they "
            "can be compared byte for byte, else they are judged by how far they are off"
        )
    elif other:
        quantized = [check for check in other if check.source_type]
        why = (
            f"{title} is quantized itself ({_source_types(quantized)}), and they were made of what is finer"
            if len(quantized) == len(other)
            else "another version or kind of processor made them, or weights that differ by less than their type can "
            "show"
        )
        yield (
            f"{len(other)} of {len(checks)} tensors cannot be made again byte for byte here, {other[0].found.name} "
            f"first: {why}"
        )


def _source_types(checks: Sequence[TensorCheck]) -> str:
    return ", ".join(sorted({check.source_type or "" for check in checks}))


def other_types(
    expected: Mapping[str, str] | None, parts: Sequence[Header], quantization: str, recorded: bool
) -> tuple[list[Problem], list[str]]:
    """Whether the tensors have the types of the mixture that the file names: what is wrong, or only worth a note.

    A file that does not say with which settings it was made may have had any.
    """
    infos = [info for part in parts for info in part.tensors]
    other = [
        f"{info.name} is {info.type_name}, not {expected[info.name]}"
        for info in infos
        if expected is not None and expected.get(info.name, info.type_name) != info.type_name
    ]
    if not other:
        return [], []
    says = f"{len(other)} of {len(infos)} tensors have another type than {quantization} gives them: {_some(other)}"
    return ([Problem("tensors", f"{says}; the file names no such setting")], []) if recorded else ([], [says])
