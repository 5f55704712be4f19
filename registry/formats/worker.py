"""The child side of scanning: weight files are read in a process that may do nothing but read them.

The service starts one *warm* process, with the readers imported (`main`). For every file it forks, and the fork reads
that one file and ends, so that nothing a hostile file might do to its reader reaches the next file, at the cost of a
fork and not of an interpreter's start. Before the first byte the fork gives up what it could misuse: it keeps one
file descriptor, its job's socket, and may open no other, neither files nor connections; memory, CPU time, wall time
and core dumps are limited; it starts no processes (that limit does not bind root).

Over the warm process's standard input, a socket, come the limits, as a frame, which it answers with a frame `W` that
says which measures of confinement hold here; then fixed-size orders; `run` with the job's socket attached, `kill`
when the service loses patience. Over a job's socket both sides send frames: a letter, a length, content.

    service → fork    J  {"size", "cpu_seconds", …}      the job
    fork → service    R  offset and length, 16 bytes each     asks for byte ranges
    service → fork    D  the bytes of all ranges, joined
    fork → service    I  an inspection     or  X  {"code", "detail", …}, the error     or  C  a fault of the reader

The process ends when its standard input does, that is at the latest when the service dies, and its forks with it.
Nothing here is beyond the standard library.
"""

import gc
import json
import os
import select
import signal
import socket
from collections.abc import Sequence
from struct import Struct
from typing import Any, NoReturn

from registry.errors import MalformedArtifactError, WeighbridgeError
from registry.formats.confinement import confine, leave_the_network, probe
from registry.formats.reader import read
from registry.formats.source import ByteRange, check_ranges
from registry.formats.wire import inspection_to_json

FRAME = Struct("<cQ")
RANGE = Struct("<QQ")
ORDER = Struct("<cQ")
READY = b"W"
RUN, KILL = b"r", b"k"
JOB, RANGES, DATA, RESULT, FAILURE, CRASH = b"J", b"R", b"D", b"I", b"X", b"C"

_SOCKET_FD = 3
_MAX_FD = 1024
"""The warm process has opened a handful of file descriptors; theirs are the lowest free numbers."""
_REAP_SECONDS = 0.2
_RECEIVE_BYTES = 1 << 20
_MOST_PLACES = 20


def send_frame(connection: socket.socket, letter: bytes, content: bytes) -> None:
    """Send one frame."""
    connection.sendall(FRAME.pack(letter, len(content)))
    connection.sendall(content)


def receive_exactly(connection: socket.socket, length: int) -> bytearray:
    """Return the next `length` bytes.

    Raises:
        EOFError: the other side went away before.
    """
    received = bytearray()
    while len(received) < length:
        piece = connection.recv(min(_RECEIVE_BYTES, length - len(received)))
        if not piece:
            raise EOFError
        received += piece
    return received


def receive_frame(connection: socket.socket, limit: int) -> tuple[bytes, bytearray]:
    """Return the letter and content of the next frame.

    Raises:
        EOFError: the other side went away, or announces more than `limit` bytes.
    """
    letter, length = FRAME.unpack(receive_exactly(connection, FRAME.size))
    if length > limit:
        raise EOFError
    return letter, receive_exactly(connection, length)


class SocketSource:
    """Bytes that the other end of a socket hands out on request."""

    def __init__(self, connection: socket.socket, size: int) -> None:
        self._connection = connection
        self._size = size

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self._size

    def read_many(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range."""
        check_ranges(ranges, self._size)
        if not ranges:
            return []
        send_frame(self._connection, RANGES, b"".join(RANGE.pack(*each) for each in ranges))
        _, joined = receive_frame(self._connection, sum(length for _, length in ranges))
        pieces: list[bytes] = []
        position = 0
        for _, length in ranges:
            pieces.append(bytes(memoryview(joined)[position : position + length]))
            position += length
        return pieces


def main() -> None:
    """Serve orders from standard input until it ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a supervisor may signal the whole group; the service drains first
    control = socket.socket(fileno=os.dup(0))
    _close_others(control)
    limits = json.loads(receive_frame(control, 1 << 16)[1])
    held = _prove(limits, without_network=leave_the_network())
    gc.freeze()  # forks then share these pages with us
    send_frame(control, READY, json.dumps(held).encode())
    _Warm(control).serve()


def _prove(limits: dict[str, Any], *, without_network: bool) -> dict[str, bool]:
    """Return which measures of confinement hold in a fork, found out by one that does nothing else."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            pid = os.fork()
            if pid == 0:
                _run_probe(theirs.fileno(), limits, without_network=without_network)
        held = json.loads(receive_frame(ours, 1 << 16)[1])
    os.waitpid(pid, 0)
    return held


def _run_probe(descriptor: int, limits: dict[str, Any], *, without_network: bool) -> NoReturn:
    try:
        _keep_only(descriptor)
        connection = socket.socket(fileno=_SOCKET_FD)
        confine(limits)
        send_frame(connection, READY, json.dumps(probe(limits, without_network=without_network)).encode())
    finally:
        os._exit(0)


def _close_others(control: socket.socket) -> None:
    """Put `/dev/null` in the place of standard input and output, so that nothing inherits the orders."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    control.set_inheritable(False)


class _Warm:
    """The warm process: forks one child a job and knows which are alive."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}

    def serve(self) -> None:
        """Follow orders; end the children when there are no more."""
        try:
            while self._follow_one():
                self._reap()
        finally:
            for pid in self._children.values():
                os.kill(pid, signal.SIGKILL)

    def _follow_one(self) -> bool:
        """Follow the next order, if one comes soon; return whether more may come."""
        if not select.select([self._control], [], [], _REAP_SECONDS if self._children else None)[0]:
            return True
        order, descriptors, _, _ = socket.recv_fds(self._control, ORDER.size, 1)
        if not order:
            return False
        if len(order) < ORDER.size:
            order += receive_exactly(self._control, ORDER.size - len(order))
        letter, job = ORDER.unpack(order)
        if letter == RUN and descriptors:
            self._fork(job, descriptors[0])
        elif letter == KILL and job in self._children:
            os.kill(self._children[job], signal.SIGKILL)
        return True

    def _fork(self, job: int, descriptor: int) -> None:
        try:
            pid = os.fork()
        except OSError:  # no room for another process: the service sees the socket close
            os.close(descriptor)
            return
        if pid == 0:
            _run_job(descriptor)
        os.close(descriptor)
        self._children[job] = pid

    def _reap(self) -> None:
        """Forget the children that ended. Until then their process ids are theirs, so that `kill` hits no other."""
        for job, pid in list(self._children.items()):
            if os.waitpid(pid, os.WNOHANG)[0]:
                del self._children[job]


def _run_job(descriptor: int) -> NoReturn:
    """Read one file in a process that is to end afterwards, come what may."""
    code = 1
    try:
        _keep_only(descriptor)
        connection = socket.socket(fileno=_SOCKET_FD)
        job = json.loads(receive_frame(connection, 1 << 16)[1])
        confine(job)
        letter, document = _answer(connection, job)
        send_frame(connection, letter, document)
        code = 0
    finally:
        os._exit(code)


def _keep_only(descriptor: int) -> None:
    """Close every file descriptor but the job's socket, which becomes number 3, and standard error."""
    os.dup2(0, 1)
    if descriptor != _SOCKET_FD:
        os.dup2(descriptor, _SOCKET_FD)
    os.closerange(_SOCKET_FD + 1, _MAX_FD)


def _answer(connection: socket.socket, job: dict[str, Any]) -> tuple[bytes, bytes]:
    """Read the file; return the letter and content of the frame that says what came of it."""
    try:
        document = inspection_to_json(read(SocketSource(connection, job["size"])).inspection)
        return RESULT, json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except WeighbridgeError as error:
        return _failure(error)
    except MemoryError:
        return _failure(MalformedArtifactError("Reading the file needs more memory than its reader may have."))
    except Exception as error:  # noqa: BLE001 - a fault of ours, whatever it is, belongs in the service's log
        return CRASH, _describe(error).encode(errors="backslashreplace")


def _failure(error: WeighbridgeError) -> tuple[bytes, bytes]:
    problem = {"code": error.code, "detail": error.detail, **error.extra}
    return FAILURE, json.dumps(problem, default=str).encode()


def _describe(error: Exception) -> str:
    """Return an exception and where it came from, innermost last; no source file is opened for it."""
    places: list[str] = []
    trace = error.__traceback__
    while trace:
        places.append(f"{trace.tb_frame.f_globals['__name__']}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{error!r} in {' > '.join(places[-_MOST_PLACES:])}"
