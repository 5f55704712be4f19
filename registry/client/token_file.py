"""A token in a file that somebody writes anew before the one in it ends, as Kubernetes does."""

import threading
from pathlib import Path

from registry.errors import ConfigurationError

MAX_BYTES = 64 << 10


class _EmptyError(ValueError):
    """The file is there and says nothing."""


class TokenFile:
    """What a file says now. It is read again when it was replaced; safe to share between threads.

    While somebody writes it, it may be missing, empty or locked for a moment: what it said last counts until then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.Lock()
        self._read: tuple[object, str] | None = None

    def read(self) -> str:
        """Return the token.

        Raises:
            ConfigurationError: there is none, or it is none.
        """
        with self._turn:
            try:
                status = self.path.stat()
                known = status.st_mtime_ns, status.st_ino, status.st_dev, status.st_size
                if self._read is None or self._read[0] != known:
                    self._read = known, self._load()
            except (OSError, ValueError) as error:
                if self._read is not None and isinstance(error, OSError | _EmptyError):
                    return self._read[1]
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise ConfigurationError(
                    f"WEIGHBRIDGE_TOKEN_FILE names {str(self.path)!r}, which holds no token: {reason}. It takes a file "
                    "with a token and nothing else."
                ) from error
            return self._read[1]

    def _load(self) -> str:
        with self.path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("ascii").strip()
        if not text:
            raise _EmptyError("it is empty")
        if len(text) > MAX_BYTES or any(character <= " " for character in text):
            raise ValueError("it is too long, or more than one word")
        return text
