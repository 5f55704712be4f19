"""What a process gives up before it reads a file that nobody trusts, and proof of what it could give up.

Kernels and containers differ in what they allow, so every measure is tried, and then tested by doing what it forbids.
Nothing here is beyond the standard library.
"""

import contextlib
import ctypes
import errno
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping

KEPT_FILES = 4
"""Standard input, output and error, and the socket of the job."""

_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_PR_SET_NO_NEW_PRIVS = 38
_NOBODY = 65534


def leave_the_network() -> bool:
    """Move this process, and all that it forks, to a network namespace without any device; return whether it worked.

    Linux only (unshare(2)). Who is not root needs a user namespace for it, which some systems forbid. The process
    must have one thread.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0


def confine(limits: Mapping[str, int]) -> None:
    """Take away from this process what reading a file does not need; there is no way back.

    Args:
        limits: `memory_bytes` of address space, `cpu_seconds`, `wall_seconds`.
    """
    _become_nobody()
    for name, amount in (
        ("RLIMIT_AS", limits["memory_bytes"]),
        ("RLIMIT_CPU", limits["cpu_seconds"]),
        ("RLIMIT_NOFILE", KEPT_FILES),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NPROC", 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit on address space
            resource.setrlimit(getattr(resource, name), (amount, amount))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(limits["wall_seconds"])


def _become_nobody() -> None:
    """Stop being root, whom some limits do not bind."""
    if os.geteuid() != 0:
        return
    with contextlib.suppress(OSError):
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)


def probe(limits: Mapping[str, int], *, without_network: bool) -> dict[str, bool]:
    """Return which measures hold in this process, which `confine` was called in, by trying to get round them.

    Args:
        limits: as `confine` took them.
        without_network: what `leave_the_network` returned.
    """
    return {
        "memory": resource.getrlimit(resource.RLIMIT_AS)[1] == limits["memory_bytes"],
        "cpu_time": resource.getrlimit(resource.RLIMIT_CPU)[1] == limits["cpu_seconds"],
        "wall_time": signal.alarm(limits["wall_seconds"]) > 0,
        "open_files": _is_refused(lambda: os.close(os.open(os.devnull, os.O_RDONLY)), {errno.EMFILE}),
        "file_writes": resource.getrlimit(resource.RLIMIT_FSIZE)[1] == 0,
        "sockets": _is_refused(lambda: socket.socket().close(), {errno.EMFILE}),
        "network": without_network,
        "processes": _is_refused(_fork, {errno.EAGAIN, errno.EPERM}),
        "unprivileged": os.geteuid() != 0,
    }


def _is_refused(attempt: Callable[[], object], codes: set[int]) -> bool:
    try:
        attempt()
    except OSError as error:
        return error.errno in codes
    return False


def _fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
