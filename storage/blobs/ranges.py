"""Byte ranges of one object, planned into few reads."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from registry.formats.source import ByteRange


@dataclass(slots=True)
class Run:
    """One read that covers several wanted ranges.

    Attributes:
        offset: the first byte to read.
        length: the number of bytes to read.
        members: the indexes of the ranges that it covers.
    """

    offset: int
    length: int
    members: list[int] = field(default_factory=list[int])


def check_form(ranges: Sequence[ByteRange]) -> None:
    """Raise `ValueError` if an offset or a length is negative."""
    for offset, length in ranges:
        if offset < 0 or length < 0:
            raise ValueError(f"no byte range: offset {offset}, length {length}")


def plan_runs(ranges: Sequence[ByteRange], *, max_gap_bytes: int, max_run_bytes: int) -> list[Run]:
    """Return reads in ascending order that cover every range that is not empty.

    Ranges closer than `max_gap_bytes` share a read, which grows no longer than `max_run_bytes` unless a
    single range is longer.
    """
    runs: list[Run] = []
    for index in sorted(range(len(ranges)), key=ranges.__getitem__):
        offset, length = ranges[index]
        if not length:
            continue
        end = offset + length
        if runs:
            run = runs[-1]
            run_end = run.offset + run.length
            joined = max(run_end, end) - run.offset
            if end <= run_end or (offset - run_end <= max_gap_bytes and joined <= max_run_bytes):
                run.length = joined
                run.members.append(index)
                continue
        runs.append(Run(offset, length, [index]))
    return runs
