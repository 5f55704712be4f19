"""What an answer says of the bytes it carries (RFC 9110, sections 8.6 and 14.4)."""

import re
from collections.abc import Mapping

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def start_of(content_range: str | None) -> int | None:
    """Return the offset of the first byte, None when the header does not say."""
    found = _RANGE.fullmatch(content_range or "")
    return int(found[1]) if found else None


def total_of(headers: Mapping[str, str], *, partial: bool) -> int | None:
    """Return the size of the whole file, None when the answer does not say."""
    if partial:
        found = _RANGE.fullmatch(headers.get("Content-Range") or "")
        return int(found[3]) if found and found[3] != "*" else None
    length = headers.get("Content-Length") or ""
    return int(length) if length.isdecimal() else None
