"""Forms (RFC 7578) parsed as they arrive: a file's bytes go on at once, nothing is spooled, fields in any order."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.metadata import read_fields
from api.receive import Receiver, iter_body
from registry.errors import IncompleteUploadError, InvalidRequestError, TooLargeError
from registry.schema import VersionCreate

MAX_HEADER_BYTES = 16 << 10
MAX_FIELDS = 2_000
_EXTENDED_NAME = re.compile(rb"filename\*\s*=\s*utf-8'[^']*'([^;\s]+)", re.IGNORECASE)


@dataclass(slots=True)
class _Part:
    """One part of a form while it arrives: a file has a sink, a field gathers its value."""

    headers: dict[str, bytes] = field(default_factory=dict[str, bytes])
    header_bytes: int = 0
    name: str = ""
    filename: str | None = None
    value: bytearray = field(default_factory=bytearray)


class _Events:
    """Turns the parser's callbacks into a list of what happened, to be worked off by a coroutine."""

    def __init__(self, boundary: bytes) -> None:
        self.happened: list[tuple[str, Any]] = []
        self._name = bytearray()
        self._value = bytearray()
        self._part = _Part()
        # The parser calls these with slices of what it was fed.
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._gather(self._name, data[start:end]),
                "on_header_value": lambda data, start, end: self._gather(self._value, data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": lambda: self.happened.append(("headers", self._part)),
                "on_part_data": lambda data, start, end: self.happened.append(("data", bytes(data[start:end]))),
                "on_part_end": lambda: self.happened.append(("part", None)),
                "on_end": lambda: self.happened.append(("form", None)),
            },
        )

    def feed(self, data: bytes) -> list[tuple[str, Any]]:
        """Return what happened in these bytes.

        Raises:
            InvalidRequestError: they are no form.
        """
        self.happened = []
        try:
            self.parser.write(data)
        except FormParserError as error:
            raise InvalidRequestError(f"The body is no multipart form: {error}.") from error
        return self.happened

    def _begin(self) -> None:
        self._part = _Part()

    def _gather(self, into: bytearray, data: bytes) -> None:
        self._part.header_bytes += len(data)
        if self._part.header_bytes > MAX_HEADER_BYTES:
            raise TooLargeError(f"The headers of a form's part take at most {MAX_HEADER_BYTES} bytes.")
        into += data

    def _end_header(self) -> None:
        self._part.headers[self._name.decode("latin-1").lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()


class FormReceiver:
    """Takes a form into a draft: files as artifacts, fields as metadata."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._fields: list[tuple[str, str]] = []
        self._field_bytes = 0
        self._part: _Part | None = None
        self.is_complete = False

    async def take(self, kind: str, what: Any) -> None:
        """Take one event of the parser."""
        if kind == "headers":
            self._part = await self._open(what)
        elif kind == "data" and self._part is not None:
            await self._data(self._part, what)
        elif kind == "part" and self._part is not None:
            await self._close(self._part)
            self._part = None
        elif kind == "form":
            self.is_complete = True

    def metadata(self) -> VersionCreate:
        """Return what the fields said."""
        return read_fields(self._fields)

    async def _open(self, part: _Part) -> _Part:
        disposition, options = parse_options_header(part.headers.get("content-disposition", b""))
        if disposition != b"form-data" or b"name" not in options:
            raise InvalidRequestError("Each part of the form needs `Content-Disposition: form-data; name=…`.")
        _check_plain(part.headers)
        part.name = _decode(options[b"name"])
        part.filename = _filename(part.headers["content-disposition"], options)
        if part.filename is not None:
            await self._receiver.open_file(part.filename)
        return part

    async def _data(self, part: _Part, data: bytes) -> None:
        if part.filename is not None:
            await self._receiver.write(data)
            return
        self._field_bytes += len(data)
        if self._field_bytes > self._receiver.max_metadata_bytes:
            raise TooLargeError("The form's fields are larger than the service takes. A file needs a filename.")
        part.value += data

    async def _close(self, part: _Part) -> None:
        if part.filename is not None:
            await self._receiver.close_file()
            return
        self._fields.append((part.name, _decode(bytes(part.value))))
        if len(self._fields) > MAX_FIELDS:
            raise TooLargeError(f"A form has at most {MAX_FIELDS} fields.")
        if part.name == "metadata":
            await self._receiver.check(self.metadata())


async def receive_form(receiver: Receiver, request: Request, idle_seconds: float) -> VersionCreate:
    """Receive a form's files into a draft and return the metadata of its fields.

    Raises:
        InvalidRequestError: it is no form.
        IncompleteUploadError: it ends before its end.
        TooLargeError: there is too much beside the files.
    """
    content_type, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if content_type != b"multipart/form-data" or not 1 <= len(boundary) <= 70:  # noqa: PLR2004 - RFC 2046, 5.1.1
        raise InvalidRequestError("Send the files as `multipart/form-data`, as `curl -F file=@model.pt` does.")
    events, form = _Events(boundary), FormReceiver(receiver)
    async for data in iter_body(request, idle_seconds):
        for kind, what in events.feed(data):
            await form.take(kind, what)
    if not form.is_complete:
        raise IncompleteUploadError("The form ends before its last boundary. Nothing was stored; send it again.")
    return form.metadata()


def _check_plain(headers: dict[str, bytes]) -> None:
    """Return when a part is what shall be stored, not packed for the way.

    Raises:
        InvalidRequestError: storing it as it is would be wrong.
    """
    coding, transfer = headers.get("content-encoding", b"identity"), headers.get("content-transfer-encoding", b"binary")
    if coding.lower() != b"identity" or transfer.lower() not in {b"binary", b"8bit", b"7bit"}:
        raise InvalidRequestError(
            "A form sends files as they are: leave out `Content-Encoding` and `Content-Transfer-Encoding` of its parts."
        )


def _filename(disposition: bytes, options: dict[bytes, bytes]) -> str | None:
    """Return a part's file name. `filename*` (RFC 5987) has no place in forms, yet older Python clients send it."""
    extended = _EXTENDED_NAME.search(disposition)
    if extended is not None:
        return _decode(unquote_to_bytes(extended[1]))
    return _decode(options[b"filename"]) if b"filename" in options else None


def _decode(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequestError("The names and fields of a form are UTF-8.") from error
