"""Commands of `python -m api` in forks of one process that has imported everything: a start takes no second.

Started as a program it takes orders on its standard input; `Forks` gives them.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

START_SECONDS = 60


class Forks:
    """The forking process, seen from a test."""

    def __init__(self, orders: IO[str], answers: IO[str], environment: dict[str, str], log: Path) -> None:
        self._orders, self._answers = orders, answers
        self._environment, self._log = environment, log

    def _ask(self, order: dict[str, Any]) -> int:
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()
        return int(self._answers.readline())

    def start(self, *arguments: str, **settings: str) -> int:
        """Start a command and return its process."""
        return self._ask(
            {"arguments": arguments, "environment": {**self._environment, **settings}, "log": str(self._log)}
        )

    def wait(self, pid: int) -> int:
        """Return how a process ended, when it has: minus the signal that killed it."""
        return self._ask({"wait": pid})

    def kill(self, pid: int) -> int:
        """Kill a process as nothing can prepare for, and return how it ended."""
        os.kill(pid, signal.SIGKILL)
        return self.wait(pid)


@contextmanager
def forking(folder: Path, environment: dict[str, str]) -> Iterator[Forks]:
    """Give what starts commands with these variables; their output goes to `folder/commands.log`."""
    command = [sys.executable, __file__]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("pipes were asked for")
    with process.stdin, process.stdout:
        try:
            assert process.stdout.readline() == "ready\n"
            yield Forks(process.stdin, process.stdout, environment, folder / "commands.log")
        finally:
            process.stdin.close()
            process.wait(10)


def wait_until_healthy(url: str) -> None:
    """Return when a service answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=5).close()  # noqa: S310 - our own service on loopback
        except OSError:
            assert time.monotonic() < deadline, f"no service at {url}"
            time.sleep(0.02)
        else:
            return


def _run(order: dict[str, Sequence[str] | dict[str, str] | str]) -> None:
    from api.__main__ import main

    log = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.environ.update({str(name): str(value) for name, value in dict(order["environment"]).items()})
    main([str(each) for each in order["arguments"]])


def _serve_orders() -> None:
    import uvicorn.loops.auto
    import uvicorn.protocols.http.auto  # noqa: F401 - imported before the forks, not in each

    import storage.fsck  # noqa: F401 - as above

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        else:
            answer = os.fork()
            if not answer:
                status = 1
                try:
                    _run(order)
                except SystemExit as end:
                    status = end.code if isinstance(end.code, int) else 0
                finally:
                    os._exit(status)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve_orders()
