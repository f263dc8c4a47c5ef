"""Reads a pickle without executing it.

A pickle is a program for a small stack machine. Python's own machine may import and call anything; this one knows the
opcodes that build plain data, and for the rest a table of allowed names. Nothing is imported, no attribute is looked
up, and nothing but the constructors in that table, which are all ours, is ever called.
"""

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass


class BadFile(Exception):
    """What is wrong with a file; the store turns it into a DetrError that names the file."""


@dataclass(frozen=True)
class Constructor:
    """An allowed name that a pickle may call: `make(*arguments)` returns the value, or a `Pending` one."""

    make: Callable


@dataclass(eq=False)
class Pending:
    """A value whose content comes later, in a BUILD opcode: `finish(state)` returns the value."""

    finish: Callable
    value: object = None


class Attributes(dict):
    """What stands for an object with attributes (argparse.Namespace): BUILD fills it."""


class Ordered(dict):
    """What stands for an OrderedDict; its attributes (torch's `_metadata`) are dropped."""


PLAIN = {
    "collections.OrderedDict": Constructor(lambda items=(): Ordered(pairs([x for key, value in items
                                                                          for x in (key, value)]))),
    "argparse.Namespace": Constructor(lambda: Attributes()),
}

# What reading a damaged file raises, in pickletools, in NumPy and here.
DAMAGE = (ValueError, TypeError, IndexError, KeyError, OverflowError, AttributeError, RecursionError, EOFError)

# Opcodes whose decoded argument is the value itself.
LITERALS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
            "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
            "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
KEYS = (str, int, float, bytes, type(None))
MOST_OPCODES = 5_000_000  # a checkpoint of 100 million weights has some 50,000


def unpickle(file, size: int, allowed: dict[str, object], persistent: Callable | None = None):
    """The object that the next pickle in a binary file describes; the file is left behind its end.

    Args:
        size: bytes in the whole file, which bound what the pickle may build.
        allowed: {"module.name": a `Constructor`, or an inert value}; every other name is refused.
        persistent: answers persistent ids (torch's storages); None refuses them.

    Errors: BadFile for a name that is not allowed and for anything damaged.
    """
    machine = Machine(allowed, persistent, budget=8 * size + (1 << 20))
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MOST_OPCODES:
                raise BadFile("a pickle longer than any checkpoint's")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except DAMAGE as error:
        raise BadFile(f"damaged pickle ({type(error).__name__}: {str(error)[:80]})") from None
    raise BadFile("damaged pickle (it has no end)")


class Machine:
    """The stack, the marks in it and the memo."""

    def __init__(self, allowed: dict[str, object], persistent: Callable | None, budget: int):
        self.allowed, self.persistent, self.budget = allowed, persistent, budget
        self.stack: list = []
        self.marked: list[list] = []  # the stacks below each open mark
        self.memo: dict[int, object] = {}

    def step(self, name: str, argument) -> None:
        if name in LITERALS:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in ACTIONS:
            ACTIONS[name](self, argument)
        else:
            raise BadFile(f"pickle opcode {name}, which no checkpoint needs")

    def pop(self):
        value = self.stack.pop()
        return value.value if isinstance(value, Pending) and value.value is not None else value

    def pop_mark(self) -> list:
        """Everything above the last mark."""
        items, self.stack = self.stack, self.marked.pop()
        return items

    def mark(self, _) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def put(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])
        self.stack.append(self.pop())  # a pending value that is finished by now

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.stack.append(tuple(items[::-1]))

    def append(self, items: Iterable) -> None:
        items = list(items)
        target = self.stack[-1]
        if type(target) is not list:
            raise BadFile("damaged pickle (append to what is no list)")
        target.extend(items)

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise BadFile("damaged pickle (item of what is no dictionary)")
        target.update(pairs(items))

    def name(self, dotted: str) -> None:
        if dotted not in self.allowed:
            raise BadFile(f"it asks for {dotted[:80]}, which no checkpoint needs; it may be an attack, "
                          "and was not executed")
        self.stack.append(self.allowed[dotted])

    def stack_global(self, _) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise BadFile("damaged pickle (a name that is no text)")
        self.name(f"{module}.{name}")

    def call(self, _) -> None:
        arguments, function = self.pop(), self.pop()
        if not (isinstance(function, Constructor) and isinstance(arguments, tuple)):
            raise BadFile("it calls what is no constructor; it was not executed")
        value = function.make(*arguments)
        self.charge(*arguments, value)
        self.stack.append(value)

    def build(self, _) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Pending) and target.value is None:
            target.value = target.finish(state)
            self.charge(target.value)
            self.stack[-1] = target.value
        elif isinstance(target, Attributes) and isinstance(state, dict):
            target.update(state)
        elif not isinstance(target, Ordered):
            raise BadFile("it sets the state of what has none; it was not executed")

    def charge(self, *values) -> None:
        """Count what is built: a few bytes can ask for the same large text or array a million times."""
        self.budget -= sum(value.nbytes if hasattr(value, "nbytes") else len(value) for value in values
                           if hasattr(value, "nbytes") or isinstance(value, (str, bytes, list, tuple, dict)))
        if self.budget < 0:
            raise BadFile("it describes far more data than the file holds")

    def persistent_id(self, _) -> None:
        if self.persistent is None:
            raise BadFile("a persistent id, which this format does not have")
        self.stack.append(self.persistent(self.pop()))


def pairs(items: list) -> dict:
    """[key, value, …] as a dictionary. Keys are plain: hashing a deeply nested tuple overflows C's stack."""
    keys = items[::2]
    if len(items) % 2 or not all(isinstance(key, KEYS) for key in keys):
        raise BadFile("damaged pickle (a dictionary's key)")
    return dict(zip(keys, items[1::2]))


ACTIONS: dict[str, Callable] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "MARK": Machine.mark,
    "POP": lambda m, _: m.stack.pop() if m.stack else m.pop_mark(),
    "POP_MARK": lambda m, _: m.pop_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "PUT": Machine.put, "BINPUT": Machine.put, "LONG_BINPUT": Machine.put, "MEMOIZE": Machine.put,
    "GET": Machine.get, "BINGET": Machine.get, "LONG_BINGET": Machine.get,
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "TUPLE": lambda m, _: (items := m.pop_mark(), m.stack.append(tuple(items))),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "LIST": lambda m, _: (items := m.pop_mark(), m.stack.append(items)),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.pop_mark()),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "DICT": lambda m, _: (items := m.pop_mark(), m.stack.append(pairs(items))),
    "SETITEM": lambda m, _: (item := [m.pop(), m.pop()], m.set_items(item[::-1])),
    "SETITEMS": lambda m, _: m.set_items(m.pop_mark()),
    "GLOBAL": lambda m, argument: m.name(argument.replace(" ", ".", 1)),
    "STACK_GLOBAL": Machine.stack_global,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": Machine.persistent_id,
}
