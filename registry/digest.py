"""Digests that carry their algorithm, and one pass that digests a stream and ranges of it."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blake3 import blake3

_DIGEST = re.compile(r"(sha256|blake3):[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Return whether `text` is `sha256:` or `blake3:` and 64 lowercase hex digits."""
    return _DIGEST.fullmatch(text) is not None


def sha256_digest(data: bytes) -> str:
    """Return `sha256:…` of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def blake3_digest(data: bytes | memoryview) -> str:
    """Return `blake3:…` of `data`."""
    return f"blake3:{blake3(data).hexdigest()}"
