"""What a broken file would still do: the pickles in it, wherever they begin.

A reader that refuses a file for its structure has perhaps not seen its pickles, and `torch.load` reads some files
that it refuses. Whether such a file is broken or hostile is worth knowing.
"""

import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from struct import Struct

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.detection import Family
from registry.formats.limits import Limits
from registry.formats.masked_pickles import LOOK_BYTES, Prober, says_pickle
from registry.formats.source import ByteSource

_WINDOW_BYTES = 8 << 20
"""Looked at are so many first and last bytes: torch writes its pickle first, TorchScript last."""
_CONTENT_BYTES = 1 << 20
_MAX_HEADERS = 2000
_SIGNATURE = b"PK\x03\x04"
_LOCAL = Struct("<4s5H3I2H")
_DEFLATED = 8
_TAR_BLOCK = 512


@contextmanager
def naming_harm(source: ByteSource, family: Family, limits: Limits) -> Generator[None]:
    """Name, in the error of a file whose structure is broken, what its pickles would do.

    A broken archive stays malformed, whatever is in it: nobody can say which pickle a program would find in it.

    Raises:
        MalformedArtifactError: with a further sentence, and `extra["globals"]`, when a pickle in it does harm.
        UnsafeArtifactError: what does harm is a pickle at the very start of the file, which every program finds.
    """
    try:
        yield
    except MalformedArtifactError as error:
        _name_harm(source, family, limits, error)
        raise


def _name_harm(source: ByteSource, family: Family, limits: Limits, error: MalformedArtifactError) -> None:
    length = min(source.size, _WINDOW_BYTES)
    prober = Prober(limits)
    for start in sorted({0, source.size - length}):
        (window,) = source.read_many([(start, length)])
        for position, content in _iter_contents(window, family):
            harmful = prober.look(content[:LOOK_BYTES], len(content), content.__getitem__).harmful
            if harmful:
                names = ", ".join(harmful[:10])
                if start + position == 0:
                    raise UnsafeArtifactError(
                        f"The file is broken ({error.detail}) and would do harm before it fails: {names}",
                        globals=sorted(harmful),
                    )
                raise MalformedArtifactError(
                    f"{error.detail} A pickle in it would do harm: {names}.", globals=sorted(harmful)
                ) from error


def _iter_contents(window: bytes, family: Family) -> Iterator[tuple[int, bytes]]:
    """Yield the first bytes of what may be a pickle, and where they lie."""
    yield 0, window[:_CONTENT_BYTES]
    if family == "zip":
        yield from _iter_zipped(window)
    elif family == "tar":
        yield from _iter_blocks(window)


def _iter_zipped(window: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the first bytes of whatever follows a local header of a zip archive."""
    position = window.find(_SIGNATURE)
    for _ in range(_MAX_HEADERS):
        if not 0 <= position <= len(window) - _LOCAL.size:
            return
        _, _, _, method, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack_from(window, position)
        start = position + _LOCAL.size + name_length + extra_length
        content = window[start : start + _CONTENT_BYTES]
        if method == _DEFLATED:
            content = _inflate(content)
        if content[:1] != b"P" and content:
            yield start, content
        position = window.find(_SIGNATURE, position + 1)


def _inflate(raw: bytes) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, _CONTENT_BYTES)
    except zlib.error:
        return b""


def _iter_blocks(window: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield what begins as a pickle where a member of a tar file may begin."""
    for position in range(_TAR_BLOCK, len(window), _TAR_BLOCK):
        if says_pickle(window[position : position + 2]):
            yield position, window[position : position + _CONTENT_BYTES]
