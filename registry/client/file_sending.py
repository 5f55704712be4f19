"""Connections that send pieces of files: by the kernel alone where nothing is encrypted, else as bytes."""

import socket
from dataclasses import dataclass
from io import FileIO
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from registry.errors import SizeMismatchError


@dataclass(frozen=True, slots=True)
class FilePiece:
    """Bytes of a file that is open for reading, unbuffered: a chunk of a request's body, beside those of bytes."""

    file: FileIO
    offset: int
    length: int

    def send_by(self, connection: "socket.socket") -> None:
        """Send it by a connection: the kernel copies.

        Raises:
            SizeMismatchError: the file became shorter.
            OSError: the connection broke, or took too long.
        """
        sent = connection.sendfile(self.file, self.offset, self.length)
        if sent < self.length:
            raise self._shorter()

    def read(self) -> bytes:
        """Return it.

        Raises:
            SizeMismatchError: the file became shorter.
        """
        self.file.seek(self.offset)
        data = self.file.read(self.length)
        if len(data) < self.length:
            raise self._shorter()
        return data

    def _shorter(self) -> SizeMismatchError:
        return SizeMismatchError(f"{self.file.name} became shorter while it was sent. Push it again.")


class _Connection(HTTPConnection):
    def send(self, data: Any) -> None:
        """Send bytes, or a piece of a file."""
        if not isinstance(data, FilePiece):
            super().send(data)
        elif type(self.sock) is socket.socket:
            data.send_by(self.sock)
        else:
            super().send(data.read())


class _EncryptedConnection(HTTPSConnection):
    def send(self, data: Any) -> None:
        """Send bytes, or a piece of a file."""
        super().send(data.read() if isinstance(data, FilePiece) else data)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection  # pyright: ignore[reportAssignmentType] - urllib3's own do not fit its protocol, either


class _EncryptedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _EncryptedConnection  # pyright: ignore[reportAssignmentType] - likewise


POOLS = {"http": _Pool, "https": _EncryptedPool}
