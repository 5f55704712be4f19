"""What a file is, by its first bytes; its name says nothing."""

import re
from typing import Literal, TypeAlias

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.limits import DEFAULT_LIMITS
from registry.formats.machine import run_prefix
from registry.formats.masked_pickles import EXTENSION, IMPORTABLE, says_pickle

Family: TypeAlias = Literal["zip", "tar", "safetensors", "legacy"]

HEAD_BYTES = 4096
"""How many first bytes `detect` and `looks_like_weights` want to see."""

_TAR_MAGIC_AT = 257
_MAX_HEADER_BYTES = 100_000_000
_TEXT_PICKLE = re.compile(
    rb"\(*[\]})N]*(?:[ci][A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|[dlt](?:p\d+\n|\.)|S['\"]|V[^\n]*\n|I\d+\n|L\d+L?\n|F)"
)
"""How pickles of protocol 0 begin that refer to or hold something."""

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "This is a Git LFS pointer, not the file: run `git lfs pull` and take the real one"),
    (b"7z\xbc\xaf\x27\x1c", "It is a 7z archive: unpack it and take the weight file in it"),
    (b"\x1f\x8b", "It is compressed by gzip: unpack it and take the weight file in it"),
    (b"BZh", "It is compressed by bzip2: unpack it and take the weight file in it"),
    (b"\xfd7zXZ\0", "It is compressed by xz: unpack it and take the weight file in it"),
    (b"\x28\xb5\x2f\xfd", "It is compressed by zstd: unpack it and take the weight file in it"),
    (b"Rar!", "It is a RAR archive: unpack it and take the weight file in it"),
    (b"PK\x05\x06", "It is an empty zip archive"),
    (b"\x93NUMPY", "It is a numpy array: load it and save it by torch.save or as safetensors"),
    (b"\x89HDF", "It is an HDF5 file, as Keras writes them; torch does not read it"),
    (b"GGUF", "It is a GGUF file, which torch does not read"),
    (b"\x08", "It looks like an ONNX file, which torch does not read"),
)
_PAGE = re.compile(rb"\s*(?:<!doctype\s+html|<html|<head|<\?xml)", re.IGNORECASE)


def detect(head: bytes, size: int) -> Family | None:
    """Return the family of formats that a file belongs to, None when torch would not read it.

    Args:
        head: its first bytes, at least 262 if it has as many.
        size: its size in bytes.
    """
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return "tar"
    if _is_safetensors(head, size):
        return "safetensors"
    return "legacy" if says_pickle(head) or head[:1] in {b"c", b"("} else None


def looks_like_weights(head: bytes) -> bool:
    """Return whether a file whose name says nothing holds weights: it is of a family that torch reads, or a pickle.

    Texts may begin as pickles of protocol 0 do (`(c) 2024 …`), and pickles may leave out what says that they are
    some; what counts is whether a pickle machine gets anywhere with them.

    Args:
        head: its first `HEAD_BYTES` bytes, or all of it.
    """
    family = detect(head, _MAX_HEADER_BYTES * 2)
    if family is not None and (family != "legacy" or says_pickle(head)):
        return True
    text = _is_text(head)
    if text and not _TEXT_PICKLE.match(head):
        return False
    try:
        result = run_prefix(head, DEFAULT_LIMITS, persistent_load=lambda _: None)
    except UnsafeArtifactError as error:
        names: list[str] = error.extra["globals"]
    except MalformedArtifactError:
        return False
    else:
        if text:
            return True
        names = [str(each) for each in result.globals] if result else []
    # Random bytes mention things too: what is no name, or extensions by number.
    return any(IMPORTABLE.fullmatch(name) for name in names if name != EXTENSION)


def explain_unknown(head: bytes, size: int) -> MalformedArtifactError:
    """Return the error for a file of no family, with a sentence on what it may be instead."""
    if not size:
        return MalformedArtifactError("The file is empty: it has 0 bytes.")
    what = next((sentence for start, sentence in _OTHERS if head.startswith(start)), None)
    if what is None and _PAGE.match(head):
        what = "It is a web page, not the file behind its link: look for an address that ends in /raw or /resolve"
    if what is None and not head.strip(b"\0"):
        what = "It begins with zeros only, as files do whose download broke off"
    if what is None and _is_text(head):
        what = "It is a text file"
    what = what or "Its first bytes are none that torch.save, torch.jit.save or safetensors write"
    return MalformedArtifactError(f"This is no weight file. {what}.")


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= _MAX_HEADER_BYTES and 8 + length <= size


def _is_text(head: bytes) -> bool:
    text = head[:-3] if len(head) > 3 else head  # noqa: PLR2004 - the last character may be cut
    try:
        return text.decode().isprintable() or not re.search(r"[\x00-\x08\x0e-\x1f]", text.decode())
    except UnicodeDecodeError:
        return False
