"""The abstract pickle machine: runs an opcode stream over inert stand-ins, and never imports or calls anything.

Everything that the stream mentions is recorded, whether it is called, kept, popped or overwritten. Protocols
0 to 5. The stacks are explicit, so that no depth of nesting exhausts ours, and no node is hashed or compared.
"""

from dataclasses import dataclass
from struct import error as StructError  # noqa: N812 - the module gives it no class name
from typing import Literal, NoReturn

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.allow_list import is_dangerous
from registry.formats.display import escape_name
from registry.formats.limits import Limits
from registry.formats.machine_state import BrokenPickleError, Empty, Machine, OutOfBytesError, PersistentLoad
from registry.formats.mentions import name_some
from registry.formats.nodes import Call, Global, Node
from registry.formats.opcodes import BINGET, COSTS, HANDLERS, LONG_BINPUT, ONE_BYTE_OPERANDS, STOP
from registry.formats.stack_opcodes import unpack_u32

_NAMED = 10
"""Classes and functions in a sentence."""


@dataclass(slots=True)
class MachineResult:
    """What a pickle describes.

    Attributes:
        root: the value that the pickle yields.
        globals: everything mentioned, once each, in the order of mention.
        calls: everything called or constructed, in order, reachable from `root` or not.
        end: the position after STOP.
        dangers: sentences on tricks that no pickler writes; any of them makes the file unsafe.
    """

    root: Node
    globals: list[Global]
    calls: list[Call]
    end: int
    dangers: list[str]


def run(data: bytes, limits: Limits, *, start: int = 0, persistent_load: PersistentLoad | None = None) -> MachineResult:
    """Run the pickle that starts at `start`, to its STOP.

    Args:
        data: the stream; it may go on after the STOP.
        limits: bounds on opcodes, memory and nesting.
        start: where the pickle starts.
        persistent_load: gives persistent ids their values; without it they are refused.

    Raises:
        MalformedArtifactError: it is no pickle, breaks off, or exceeds a limit.
        UnsafeArtifactError: likewise, after it mentioned something that does harm.
    """
    result = run_prefix(data, limits, start=start, persistent_load=persistent_load, last=True)
    if result is None:
        raise AssertionError
    return result


def run_prefix(
    data: bytes,
    limits: Limits,
    *,
    start: int = 0,
    persistent_load: PersistentLoad | None = None,
    last: bool = False,
) -> MachineResult | None:
    """Run a pickle, as `run` does, of which perhaps only the first bytes are at hand; None when it goes on after them.

    With `last` no more bytes follow, so that a pickle that goes on is malformed.

    Raises:
        MalformedArtifactError, UnsafeArtifactError: as for `run`.
    """
    machine = Machine(data, limits, start, persistent_load)
    try:
        root, end = _execute(machine)
    except OutOfBytesError:
        if not last:
            return None
        _refuse(machine, "it breaks off")
    except IndexError:
        _refuse(machine, "it asks the stack or the memo for something that is not there")
    except BrokenPickleError as error:
        _refuse(machine, str(error))
    except MalformedArtifactError as error:
        refuse_if_dangerous(list(machine.mentioned.values()), machine.dangers, error.detail)
        raise
    return MachineResult(root, list(machine.mentioned.values()), machine.calls, end, machine.dangers)


@dataclass(slots=True)
class Probe:
    """What bytes say when they are run as if they were a pickle, whatever they are.

    Attributes:
        mentioned: the classes and functions so far.
        dangers: the tricks so far.
        outcome: whether they ran to a STOP, broke a rule, or go on after the bytes at hand.
    """

    mentioned: list[Global]
    dangers: list[str]
    outcome: Literal["ended", "broken", "hungry"]


def probe(data: bytes, limits: Limits, size: int) -> Probe:
    """Run the first bytes of something that may be no pickle at all.

    Args:
        data: the bytes at hand.
        limits: bounds on opcodes, memory and nesting.
        size: how many bytes there are in all.
    """
    machine = Machine(data, limits, 0, lambda _: None)
    outcome: Literal["ended", "broken", "hungry"] = "ended"
    try:
        _execute(machine)
    except OutOfBytesError:
        outcome = "hungry" if len(data) < size else "broken"
    except (IndexError, BrokenPickleError, MalformedArtifactError):
        outcome = "broken"
    return Probe(list(machine.mentioned.values()), machine.dangers, outcome)


def refuse_if_dangerous(mentioned: list[Global], dangers: list[str], problem: str) -> None:
    """Raise `UnsafeArtifactError` for a file with a `problem` if it also mentions something that does harm."""
    harmful = [str(each) for each in mentioned if is_dangerous(each.module, each.name)]
    if harmful or dangers:
        names = name_some(harmful, _NAMED) if harmful else escape_name(" ".join(dangers[:3]))
        raise UnsafeArtifactError(
            f"The file is broken ({problem}) and would do harm before it fails: {names}",
            globals=sorted(str(each) for each in mentioned),
            reasons=dangers,
        )


def _refuse(machine: Machine, reason: str) -> NoReturn:
    problem = f"The pickle cannot be read: {reason}."
    refuse_if_dangerous(list(machine.mentioned.values()), machine.dangers, problem)
    raise MalformedArtifactError(problem)


def _execute(machine: Machine) -> tuple[Node, int]:  # noqa: C901 - one loop, unrolled for speed
    """Run to STOP; return the value that the pickle yields and the position after it.

    The memo's binary opcodes are half of every pickle; they are done here, where they cost no call.
    """
    data, memo, costs, handlers = machine.data, machine.memo, COSTS, HANDLERS
    pos, allowance, code = machine.start, machine.limits.machine_bytes, STOP
    try:
        for count in range(machine.limits.opcodes):
            if pos >= machine.barrier:
                allowance -= machine.settle(pos)
                if allowance < 0:
                    machine.refuse_size()
            code = data[pos]
            pos += 1
            allowance -= costs[code]
            if code == BINGET:
                value = memo[data[pos]]
                if value is Empty:
                    machine.refuse_memo()
                machine.stack.append(value)
                pos += 1
            elif code == LONG_BINPUT and unpack_u32(data, pos)[0] == len(memo):
                memo.append(machine.stack[-1])
                pos += 4
            elif code == STOP:
                return _finish(machine, pos)
            elif allowance < 0:
                machine.refuse_size()
            else:
                machine.count = count
                pos = handlers[code](machine, pos)
    except IndexError:
        if code in ONE_BYTE_OPERANDS and pos >= machine.size:
            raise OutOfBytesError from None
        raise
    except StructError:
        raise OutOfBytesError from None
    raise BrokenPickleError(f"it has more than {machine.limits.opcodes} opcodes")


def _finish(machine: Machine, end: int) -> tuple[Node, int]:
    # A FRAME that goes on after STOP is taken whole by some unpicklers, which then read what follows elsewhere.
    if machine.frame_end not in {end, machine.size + 1} or len(machine.stack) != 1 or machine.marks:
        raise BrokenPickleError("its STOP comes too early or too late")
    return machine.stack.pop(), end
