"""Rounds of peers that alternate, so that a slow minute of the machine hits all, and what they came to."""

import mmap
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from transfers.processes import processor_seconds

ResultT = TypeVar("ResultT")


class Spent(NamedTuple):
    """What an action cost: seconds on the clock, and of processors in all processes that took part."""

    seconds: float
    processor_seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.seconds:.3f} s, {self.processor_seconds:.3f} s of processors"


_COPIES = 4
"""Of what is moved that one peer makes: what it saved, what a server holds, a cache, and what comes out."""

Peers = Mapping[str, Callable[[], Spent]]


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure should come to.

    Attributes:
        must: the bound that it is held to.
        goal: the bound that it is to reach; None where `must` is all.
        against: the peer whose figure a bound is a multiple of; None where the bound is the figure itself.
    """

    must: float
    goal: float | None = None
    against: str | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """What one peer came to in the rounds that count.

    Attributes:
        who: the peer.
        unit: `s`, `MiB` or `requests/s`.
        values: one a round.
        processor_seconds: likewise, where they were counted.
        size_bytes: how much was moved, where that tells a rate.
        aims: what it should come to, on our own figures.
    """

    who: str
    unit: str
    values: Sequence[float]
    size_bytes: int | None = None
    aims: Sequence[Aim] = ()
    processor_seconds: Sequence[float] = ()

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Table:
    """The figures of one row of the bench: what was done, where, and how each peer did it."""

    row: str
    title: str
    place: str
    figures: list[Figure] = field(default_factory=list[Figure])


def alternate(peers: Mapping[str, Callable[[], ResultT]], rounds: int, size_bytes: int = 0) -> dict[str, list[ResultT]]:
    """Return what each peer measured in each round, without the first round, which warms up.

    Args:
        peers: by name, what measures each.
        rounds: how often each is asked.
        size_bytes: of what they move; each begins with memory that is warm for copies of it.
    """
    found: dict[str, list[ResultT]] = {name: [] for name in peers}
    for number in range(rounds):
        for name, measure in peers.items():
            warm_memory(size_bytes)
            value = measure()
            say(f"  round {number}: {name}: {value}")
            if number:
                found[name].append(value)
    return found


def warm_memory(size_bytes: int) -> None:
    """Touch memory for copies of what has that size, and give it back: what is taken next is taken from that first.

    A virtual machine may return free memory to its host within seconds. The next touch of it then takes eight times
    as long, and who asks for memory last would pay for those before.
    """
    if size_bytes:
        with mmap.mmap(-1, _COPIES * size_bytes) as memory:
            for start in range(0, len(memory), mmap.PAGESIZE):
                memory[start] = 1


def figures_of(
    found: Mapping[str, Sequence[Spent]], size_bytes: int, aims: Mapping[str, Sequence[Aim]]
) -> list[Figure]:
    """Return the figure of each peer, with what it is held to."""
    return [
        Figure(
            who,
            "s",
            [each.seconds for each in spent],
            size_bytes,
            aims.get(who, ()),
            [each.processor_seconds for each in spent],
        )
        for who, spent in found.items()
    ]


def timed(action: Callable[[], object], *pids: int) -> Spent:
    """Return what an action costs, processors of this process and of those with everything below them."""
    counted = (os.getpid(), *pids)
    before = sum(map(processor_seconds, counted))
    start = time.perf_counter()
    action()
    seconds = time.perf_counter() - start
    return Spent(seconds, sum(map(processor_seconds, counted)) - before)


def say(text: str) -> None:
    """Tell whoever watches how far it is."""
    print(text, file=sys.stderr, flush=True)
