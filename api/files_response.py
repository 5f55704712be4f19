"""An answer whose bytes lie in files: the connection copies them, and nobody here reads them."""

from collections.abc import Iterator, Mapping

from anyio import CancelScope, CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from api.direct import SEND_FILE
from storage.blobs.base import FilePiece


def takes_files(request: Request) -> bool:
    """Return whether the connection of a request takes pieces of files."""
    return SEND_FILE in request.scope.get("extensions", {})


class FilesResponse(Response):
    """An answer of pieces, some of them of files.

    Args:
        pieces: each is sent before the next is asked for.
        first: the piece that was asked for already, to see whether there is any; None where there is none.
        status_code: of the answer.
        headers: of the answer, with its `Content-Length`.
        media_type: of the answer.
        limiter: of the threads that ask for pieces.
    """

    def __init__(  # noqa: PLR0917 - as FastAPI's own
        self,
        pieces: Iterator[bytes | FilePiece],
        first: bytes | FilePiece | None,
        status_code: int,
        headers: Mapping[str, str],
        media_type: str,
        limiter: CapacityLimiter,
    ) -> None:
        self._pieces = pieces
        self._first = first
        self._limiter = limiter
        self.status_code = status_code
        self.media_type = media_type
        self.background = None
        self.body = b""
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, until the end or until nobody reads it any more."""
        del scope, receive
        piece = self._first
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while piece is not None:
                await send(_message_of(piece))
                piece = await run_sync(next, self._pieces, None, limiter=self._limiter)
            await send({"type": "http.response.body", "body": b""})
        except ConnectionError:
            return
        finally:
            with CancelScope(shield=True):
                await run_sync(close_pieces, self._pieces, limiter=self._limiter)


def _message_of(piece: bytes | FilePiece) -> dict[str, object]:
    if isinstance(piece, FilePiece):
        return {
            "type": SEND_FILE,
            "file": piece.descriptor,
            "offset": piece.offset,
            "count": piece.length,
            "more_body": True,
        }
    return {"type": "http.response.body", "body": piece, "more_body": True}


def close_pieces(pieces: Iterator[object]) -> None:
    """Let go of what pieces come from."""
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
