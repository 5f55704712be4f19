"""A peer's client in a process of its own: a line of JSON there, a line of JSON back."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transfers.processes import processor_seconds, stopped
from transfers.rounds import Spent


class Worker:
    """A process that calls functions by name, to be used as a context manager.

    Args:
        name: of the peer, for errors.
        command: what runs it.
        folder: where it works.
        variables: its environment.
        server_pid: the server that it speaks to, whose processors count too.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], folder: Path, variables: Mapping[str, str], server_pid: int
    ) -> None:
        self._name = name
        self._server_pid = server_pid
        self._process = subprocess.Popen(
            command, cwd=folder, env=dict(variables), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with stopped(self._process):
            pass

    def spend(self, verb: str, **arguments: Any) -> Spent:
        """Return what the worker's function of that name cost it, and the server meanwhile.

        Raises:
            RuntimeError: it failed, and told why on the standard error.
        """
        before = processor_seconds(self._server_pid)
        assert self._process.stdin is not None  # noqa: S101 - as it was started
        assert self._process.stdout is not None  # noqa: S101 - as it was started
        self._process.stdin.write(json.dumps([verb, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client of {self._name} failed in {verb!r}")
        seconds, own = json.loads(line)
        return Spent(seconds, own + processor_seconds(self._server_pid) - before)
