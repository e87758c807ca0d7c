"""Reads a pickle as data: dictionaries, lists and numbers, and whatever a pickle would call or make as a mere name.

A pickle is a program. This interprets the few of its instructions that data needs, imports nothing and calls nothing:
a function comes as `Global`, its call as `Call`. What is done with them is up to the reader, who knows what he expects.
Knows nothing of torch and of tensors.

Source: the documentation of opcodes in Python's `pickletools`, which splits the program into instructions.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import IO, Any

from localllm.errors import BadCheckpoint

MAX_INSTRUCTIONS = 20_000_000
"""Far more than the largest published checkpoint has."""


@dataclass(frozen=True)
class Global:
    """A thing that the pickle names by module and name."""

    name: str


@dataclass(frozen=True)
class Call:
    """What the pickle would have a function make of arguments. `state` is what it would then set on it."""

    function: Global
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Persistent:
    """A thing that is outside the pickle."""

    key: Any


class _Mark:
    """Where the items of a collection begin."""


def read_pickle(file: IO[bytes], allowed: Container[str], place: str) -> Any:
    """The object in a pickle that begins where `file` is; afterwards the file is behind it.

    Raises:
        BadCheckpoint: it names a thing that is not `allowed` (`module name`), needs an instruction that data does not,
            or is damaged. `place` is how messages call it.
    """
    machine = _Machine(allowed, place)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if opcode.name == "STOP":
                return machine.pop()
            step = _STEPS.get(opcode.name)
            if step is None:
                raise BadCheckpoint(f"{place}: the pickle is not one of tensors: it does {opcode.name}.", hint=_HINT)
            if count > MAX_INSTRUCTIONS:
                raise BadCheckpoint(f"{place}: the pickle is far longer than one of tensors.", hint=_HINT)
            step(machine, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError) as error:
        raise BadCheckpoint(f"{place}: the pickle is damaged ({error}).", hint=_DAMAGED) from error
    raise BadCheckpoint(f"{place}: the pickle has no end.", hint=_DAMAGED)


_HINT = (
    "It was not read further, and nothing of it was run. If you trust it, load it where it was made and save it again: "
    "model.save_pretrained(folder, safe_serialization=True)."
)
_DAMAGED = "Download it again."


class _Machine:
    """The stack and the memory of the program."""

    def __init__(self, allowed: Container[str], place: str) -> None:
        self.allowed, self.place = allowed, place
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if isinstance(value, _Mark):
            raise ValueError("an instruction lacks its argument")
        return value

    def items(self) -> list[Any]:
        """Everything above the last mark, which goes too."""
        at = len(self.stack) - 1
        while not isinstance(self.stack[at], _Mark):
            at -= 1
            if at < 0:
                raise ValueError("a collection has no beginning")
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def name(self, module: Any, name: Any) -> None:
        """A global, if it is one of those allowed."""
        wanted = f"{module} {name}"
        if wanted not in self.allowed:
            raise BadCheckpoint(
                f"{self.place}: the pickle wants {f'{module}.{name}'!r}, which no tensor needs.", hint=_HINT
            )
        self.push(Global(wanted))

    def set_items(self, pairs: list[Any]) -> None:
        target, keys = self.stack[-1], pairs[::2]
        if not isinstance(target, dict) or len(pairs) % 2:
            raise ValueError("items are put into what is no dictionary")
        if not all(isinstance(key, (str, int)) for key in keys):
            raise ValueError("a key is no text")  # and to hash a tuple of tuples may need any depth
        target.update(zip(keys, pairs[1::2], strict=True))

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ValueError("items are put into what is no list")
        target.extend(values)

    def call(self) -> None:
        """A call, not made. Only an OrderedDict, which is data, becomes what it stands for."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise ValueError("a call of what is no function")
        if function.name != "collections OrderedDict":
            self.push(Call(function, arguments))
            return
        self.push({})
        for pair in arguments[0] if arguments else ():
            self.set_items(list(pair))

    def build(self) -> None:
        """The state of an object, which no tensor needs: torch keeps the versions of modules there."""
        self.pop()
        if not isinstance(self.stack[-1], (dict, Call)):
            raise ValueError("a state is set on what has none")


def _remember(machine: _Machine, key: int | None) -> None:
    machine.memory[len(machine.memory) if key is None else key] = machine.stack[-1]


def _tuple(count: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        machine.push(tuple(reversed([machine.pop() for _ in range(count)])))

    return step


def _value(make: Callable[[], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(make())


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")

_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(_LITERALS, lambda machine, argument: machine.push(argument)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, key: machine.push(machine.memory[key])),
    **dict.fromkeys(("PROTO", "FRAME"), lambda _machine, _: None),
    "NONE": _value(lambda: None),
    "NEWTRUE": _value(lambda: True),
    "NEWFALSE": _value(lambda: False),
    "EMPTY_DICT": _value(dict),
    "EMPTY_LIST": _value(list),
    "MARK": _value(_Mark),
    "EMPTY_TUPLE": _tuple(0),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.items())),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.items()),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.items()),
    "GLOBAL": lambda machine, argument: machine.name(*argument.split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.push(Persistent(machine.pop())),
}
"""What each instruction does."""
