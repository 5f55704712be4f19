"""The tar format of torch 0.1.9 and earlier: its pickles are run on the machine, its tensors are not listed."""

from collections.abc import Iterator
from struct import Struct
from typing import NoReturn

from registry.errors import MalformedArtifactError
from registry.formats.inert_names import DTYPE_BYTES, STORAGE_PAIRS
from registry.formats.inspection import Document, Inspection
from registry.formats.limits import Limits
from registry.formats.machine import MachineResult, run_prefix
from registry.formats.modules import is_module
from registry.formats.nodes import Call, Global, Node, PersistentRef
from registry.formats.pickled import Pickled
from registry.formats.source import ByteRange, ByteSource
from registry.formats.values import as_items
from registry.formats.verdict import judge

_BLOCK = 512
_MEMBERS = frozenset({"sys_info", "pickle", "tensors", "storages"})
_REGULAR = frozenset({b"0", b"\0"})
_EXTENDED_BYTES = 1 << 16
_WINDOW_BYTES = 64 << 10
_COUNT = Struct("<q")
_DIMENSIONS = Struct("<i4x")


def read_tar(source: ByteSource, limits: Limits) -> Document:
    """Return the verdict on a tar file that torch 0.1.9 or earlier wrote.

    Raises:
        MalformedArtifactError: it cannot be read strictly.
        UnsafeArtifactError: likewise, and it mentions something that does harm.
    """
    members = dict(_iter_members(source))
    if members.keys() != _MEMBERS:
        _refuse(f"it holds {sorted(members)} where torch writes {sorted(_MEMBERS)}")
    results: list[MachineResult] = []
    try:
        _Member(source, members["sys_info"], limits, results).pickle()
        _read_tensors(_Member(source, members["tensors"], limits, results), limits)
        _read_storages(_Member(source, members["storages"], limits, results), limits)
        root = _Member(source, members["pickle"], limits, results).pickle()
    except MalformedArtifactError as error:
        Pickled(*results).refuse_if_dangerous(error.detail)
        raise
    pickled = Pickled(*results)
    verdict = judge(pickled.mentioned, pickled.calls, pickled.dangers, limits)
    kind = "module" if type(root) is Call and is_module(root) else "checkpoint"
    inspection = Inspection("torch-tar", kind, verdict.trust, source.size, verdict.reasons)
    inspection.globals, inspection.foreign_globals = verdict.globals, verdict.foreign_globals
    inspection.reasons.append(
        "Its tensors are not listed: torch 0.1.9 or earlier wrote it. Load it there, and save it again."
    )
    return Document(inspection)


def _iter_members(source: ByteSource) -> Iterator[tuple[str, ByteRange]]:
    """Yield the name and range of each member, all of them regular files with plain names, each once."""
    position, seen = 0, set[str]()
    while position + _BLOCK <= source.size:
        (header,) = source.read_many([(position, _BLOCK)])
        if not header.strip(b"\0"):
            return
        size = _member_size(header)
        name, kind = header[:100].rstrip(b"\0").decode("latin-1"), header[156:157]
        content = (position + _BLOCK, size)
        position += _BLOCK + size + -size % _BLOCK
        if kind == b"x" and size <= _EXTENDED_BYTES:
            (records,) = source.read_many([content])
            if b" path=" in records or b" size=" in records or b" linkpath=" in records:
                _refuse("a member has an extended name or size")
            continue
        if kind not in _REGULAR or name not in _MEMBERS or name in seen or header[345:500].strip(b"\0"):
            _refuse(f"its member {name[:100]!r} is none that torch writes, or comes twice")
        seen.add(name)
        yield name, content


def _member_size(header: bytes) -> int:
    digits = header[124:136].strip(b" \0")
    total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    check = header[148:156].strip(b" \0")
    if not digits.isdigit() or not check.isdigit() or not set(digits + check) <= set(b"01234567"):
        _refuse("a member has no valid size")
    if int(check, 8) != total:
        _refuse("the checksum of a member's header is wrong")
    return int(digits, 8)


class _Member:
    """A member read from its start: pickles with binary values between them."""

    def __init__(self, source: ByteSource, place: ByteRange, limits: Limits, results: list[MachineResult]) -> None:
        self._source = source
        self._position, length = place
        self._end = self._position + length
        self._limits = limits
        self._results = results

    def pickle(self) -> Node:
        """Run the next pickle and return its value."""
        window = _WINDOW_BYTES
        while True:
            available = min(window, self._end - self._position, self._limits.pickle_bytes)
            last = available < window
            (data,) = self._source.read_many([(self._position, available)])
            result = run_prefix(data, self._limits, persistent_load=PersistentRef, last=last)
            if result is not None:
                self._results.append(result)
                self._position += result.end
                return result.root
            window *= 8

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        if length > self._end - self._position:
            _refuse("a member is truncated")
        (data,) = self._source.read_many([(self._position, length)])
        self._position += length
        return data

    def skip(self, length: int) -> None:
        """Pass over bytes."""
        if not 0 <= length <= self._end - self._position:
            _refuse("a member is truncated")
        self._position += length


def _count(value: Node, limits: Limits) -> int:
    if type(value) is not int or not 0 <= value <= limits.names:
        _refuse("it does not say how many tensors or storages it holds")
    return value


def _read_tensors(member: _Member, limits: Limits) -> None:
    for _ in range(_count(member.pickle(), limits)):
        member.pickle()
        (dimensions,) = _DIMENSIONS.unpack(member.take(_DIMENSIONS.size))
        if not 0 <= dimensions <= limits.dimensions:
            _refuse("a tensor has too many dimensions")
        member.skip(2 * dimensions * _COUNT.size + _COUNT.size)


def _read_storages(member: _Member, limits: Limits) -> None:
    for _ in range(_count(member.pickle(), limits)):
        description = as_items(member.pickle()) or ()
        kind = description[-1] if len(description) == 3 else None  # noqa: PLR2004 - key, location, class
        dtype = STORAGE_PAIRS.get((kind.module, kind.name)) if type(kind) is Global else None
        if dtype is None:
            _refuse("a storage is of no class that torch has")
        (numel,) = _COUNT.unpack(member.take(_COUNT.size))
        member.skip(numel * DTYPE_BYTES[dtype])
    member.pickle()


def _refuse(problem: str) -> NoReturn:
    raise MalformedArtifactError(f"The tar file cannot be read: {problem}.")
