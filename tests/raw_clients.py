"""Clients without a library: sockets whose buffers are chosen, and waiting for what a server does meanwhile."""

import socket
import time

WAIT_SECONDS = 20


def connect(address, receive_bytes=None):
    """Return a connection; the kernel holds about `receive_bytes` of what is not read."""
    raw = socket.socket()
    if receive_bytes is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.settimeout(WAIT_SECONDS)
    raw.connect(address)
    return raw


def read_all(raw):
    """Return what comes until the connection ends."""
    pieces = []
    while piece := raw.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def wait_until(true):
    """Return when something is true.

    Raises:
        AssertionError: it did not become so in time.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
