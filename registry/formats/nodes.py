"""The inert stand-ins that the pickle machine builds: what a pickle describes, never what it would run.

A node is `None`, `bool`, `int`, `float`, `str`, `bytes`, or one of the classes here. Nodes compare and hash
by identity (`eq=False`): hashing by value is how a small forged pickle takes forever. Never walk them by
recursion either: they may be 500,000 deep, shared, or cyclic.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Node: TypeAlias = Any
"""A plain value or one of the node classes of this module."""


@dataclass(frozen=True, eq=False, slots=True)
class Global:
    """A class or function that the pickle refers to by module and name. Never imported.

    Attributes:
        pair: module and name.
    """

    module: str
    name: str
    pair: tuple[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pair", (self.module, self.name))

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class TupleNode:
    """A tuple."""

    items: tuple[Node, ...]


@dataclass(eq=False, slots=True)
class ListNode:
    """A list."""

    items: list[Node] = field(default_factory=list[Node])


@dataclass(eq=False, slots=True)
class SetNode:
    """A set or frozenset."""

    items: list[Node] = field(default_factory=list[Node])
    frozen: bool = False


@dataclass(eq=False, slots=True)
class DictNode:
    """A dict as its pairs in stored order; a repeated key stays repeated, the last one wins."""

    pairs: list[tuple[Node, Node]] = field(default_factory=list[tuple[Node, Node]])


@dataclass(eq=False, slots=True)
class BigInt:
    """An integer of more than 64 kbit, kept as its two's complement little-endian bytes."""

    data: bytes


@dataclass(eq=False, slots=True)
class Call:
    """The value of `function(*arguments)`, with what the pickle then did to it.

    Attributes:
        function: what is called; a `Global` in every file that is not an attack.
        arguments: the positional arguments.
        keywords: the keyword arguments (NEWOBJ_EX), as pairs.
        construct: True when the pickle builds an instance by `cls.__new__` (NEWOBJ) and not by a call (REDUCE).
        state: the operand of BUILD, when `has_state`.
        has_state: whether there was a BUILD.
        items: what APPEND(S) added.
        pairs: what SETITEM(S) set.
        given: how many members the first argument had when it was called, for one that can grow afterwards.
    """

    function: Node
    arguments: tuple[Node, ...]
    keywords: list[tuple[Node, Node]] | tuple[()] = ()
    construct: bool = False
    state: Node = None
    has_state: bool = False
    items: list[Node] | tuple[()] = ()
    pairs: list[tuple[Node, Node]] | tuple[()] = ()
    given: int | None = None

    def add_items(self, items: Sequence[Node]) -> None:
        """Add what APPEND(S) or ADDITEMS adds."""
        if isinstance(self.items, tuple):
            self.items = []
        self.items.extend(items)

    def add_pairs(self, pairs: Sequence[tuple[Node, Node]]) -> None:
        """Add what SETITEM(S) sets."""
        if isinstance(self.pairs, tuple):
            self.pairs = []
        self.pairs.extend(pairs)


@dataclass(eq=False, slots=True)
class StorageRef:
    """torch's persistent id of a storage.

    Attributes:
        key: the name of the record that holds the bytes.
        dtype: the storage's element type (`float32`), `uint8` for an untyped storage.
        untyped: True for `torch.storage.UntypedStorage`, whose elements are bytes.
        location: the device it was saved from (`cpu`, `cuda:0`); free text, for display.
        numel: the number of elements of `dtype`.
        view: the legacy format's `(view_key, offset, numel)`.
    """

    key: str
    dtype: str
    untyped: bool
    location: str
    numel: int
    view: tuple[str, int, int] | None = None


@dataclass(eq=False, slots=True)
class PersistentRef:
    """Any other persistent id (legacy `module` ids carry a class and its source text)."""

    value: Node


def count_members(node: Node) -> int | None:
    """Return how much a node holds that can grow; None for one that cannot."""
    if isinstance(node, DictNode):
        return len(node.pairs)
    if isinstance(node, ListNode | SetNode):
        return len(node.items)
    return len(node.items) + len(node.pairs) if isinstance(node, Call) else None
