"""The state of the abstract pickle machine, and what its opcodes may do to it."""

from collections.abc import Callable
from typing import NoReturn, TypeAlias

from registry.formats.limits import Limits
from registry.formats.nodes import Call, Global, Node, count_members

PersistentLoad: TypeAlias = Callable[[Node], Node]
"""Turns a persistent id into its value; raises `MalformedArtifactError` for one that does not belong."""


class BrokenPickleError(Exception):
    """The stream breaks the rules of the pickle format. Never leaves the machine."""


class OutOfBytesError(Exception):
    """The stream goes on after the bytes at hand. Never leaves the machine."""


class Empty:
    """Marks a memo slot that nothing was put into."""


class Machine:
    """The state of one run; the opcodes of `registry.formats.opcodes` work on it.

    Attributes:
        stack: the values since the last MARK; the older ones wait in `marks`.
        frame_end: where the current FRAME ends, beyond the data when there is none.
        barrier: where the FRAME or the data ends, whichever comes first; before everything when bytes are `pending`.
        pending: estimated bytes that were charged and not yet settled.
        count: opcodes executed so far.
        memo_holes: the memo's slots that nothing was put into.
    """

    __slots__ = (
        "barrier",
        "calls",
        "count",
        "dangers",
        "data",
        "frame_end",
        "limits",
        "marks",
        "memo",
        "memo_holes",
        "mentioned",
        "pending",
        "persistent_load",
        "size",
        "stack",
        "start",
    )

    def __init__(self, data: bytes, limits: Limits, start: int, persistent_load: PersistentLoad | None) -> None:
        self.data = data
        self.limits = limits
        self.size = len(data)
        self.start = start
        self.persistent_load = persistent_load
        self.stack: list[Node] = []
        self.marks: list[list[Node]] = []
        self.memo: list[Node] = []
        self.memo_holes = 0
        self.mentioned: dict[tuple[str, str], Global] = {}
        self.calls: list[Call] = []
        self.dangers: list[str] = []
        self.frame_end = self.size + 1
        self.barrier = self.size
        self.count = 0
        self.pending = 0

    def take(self, pos: int, length: int) -> bytes:
        """Return `length` bytes from `pos`."""
        end = pos + length
        if end > self.size:
            raise OutOfBytesError
        return self.data[pos:end]

    def take_line(self, pos: int) -> tuple[bytes, int]:
        """Return the bytes from `pos` to the next newline, and the position after it."""
        end = self.data.find(b"\n", pos)
        if end < 0:
            raise OutOfBytesError
        return self.data[pos:end], end + 1

    def pop_mark(self) -> list[Node]:
        """Return the values since the last MARK and forget the mark."""
        if not self.marks:
            raise BrokenPickleError("a MARK is missing")
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def charge(self, size_bytes: int) -> None:
        """Account for memory that an opcode is about to take; settled before the next one."""
        self.pending += size_bytes
        self.barrier = -1
        if self.pending > self.limits.machine_bytes:
            self.refuse_size()

    def settle(self, pos: int) -> int:
        """Return what was charged since the last call; called wherever `pos` has reached the barrier."""
        pending, self.pending = self.pending, 0
        self.barrier = min(self.frame_end, self.size)
        if pos >= self.barrier:
            self.pass_barrier(pos)
        return pending

    def refuse_size(self) -> NoReturn:
        """Refuse a pickle that describes too much."""
        raise BrokenPickleError(f"it describes more than {self.limits.machine_bytes} bytes of objects")

    def refuse_memo(self) -> NoReturn:
        """Refuse a GET of what was never PUT."""
        raise BrokenPickleError("it asks the memo for something that was never put there")

    def danger(self, sentence: str) -> None:
        """Note a trick that no pickler writes."""
        if sentence not in self.dangers:
            self.dangers.append(sentence)

    def mention(self, module: str, name: str) -> Global:
        """Return the one stand-in for `module.name`."""
        pair = (module, name)
        found = self.mentioned.get(pair)
        if found is None:
            self.charge(256 + len(module) + len(name))  # both are joined where the name is told
            found = self.mentioned[pair] = Global(module, name)
        return found

    def call(self, function: Node, arguments: tuple[Node, ...], *, construct: bool) -> Call:
        """Return the value of a call, and record it."""
        if type(function) is not Global:
            self.danger("It calls a value that it computed and not a named class or function.")
        node = Call(function, arguments, construct=construct)
        if arguments:
            node.given = count_members(arguments[0])
        self.calls.append(node)
        return node

    def enter_frame(self, pos: int, length: int) -> None:
        """Begin a FRAME of `length` bytes at `pos`."""
        if self.frame_end <= self.size:
            raise BrokenPickleError("a FRAME lies inside another")
        if pos + length > self.size:
            raise OutOfBytesError
        self.barrier = self.frame_end = pos + length

    def pass_barrier(self, pos: int) -> None:
        """End the FRAME that ends at `pos`; called where one, or the data, has ended."""
        if pos > self.frame_end:
            raise BrokenPickleError("an opcode crosses the end of its FRAME")
        if pos >= self.size:
            raise OutOfBytesError
        self.frame_end = self.size + 1
        self.barrier = self.size


Handler: TypeAlias = Callable[[Machine, int], int]
"""An opcode: takes the position after it, returns the one after its operand. An `IndexError` means an empty stack."""
