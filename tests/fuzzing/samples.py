"""Weight files taken apart, so that one part of them can be changed and the rest kept right."""

import functools
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from corpus.archives import Record, ZipLayout, zip_bytes

from fuzzing import pickle_mutations
from fuzzing.json_mutations import mutate_header, mutate_json
from fuzzing.tar_mutations import Member, mutate_members, pack
from fuzzing.zip_mutations import mutate_archive

_TEXTS = (
    b"little", b"big", b"3\n", b"1\n", b"10\n", b"11\n", b"0", b"", b"64", b"pt2", b"\xff", b"torch.save(x, 'y')\n",
    b'__parameters__ = ["w"]\n', b"7z\xbc\xaf\x27\x1c", b"PK\x03\x04",
)  # fmt: skip
_DEPTH = 2


class Sample(Protocol):
    """A file in its parts."""

    def mutated(self, rng: Random) -> bytes:
        """Return the file with one part changed."""
        ...


def take_apart(data: bytes) -> Sample:
    """Return the parts of a file; of one that cannot be taken apart, its bytes."""
    try:
        if data.startswith(b"PK\x03\x04"):
            return ZipSample(data)
        if data[257:262] == b"ustar":
            return TarSample(data)
        if data[8:9] == b"{":
            return SafetensorsSample(data)
    except Exception:  # noqa: BLE001 - Python's own readers fail on forged archives in any way
        return BytesSample(data)
    return StreamSample(data) if data[:2] == b"\x80\x02" else BytesSample(data)


def mutated_bytes(rng: Random, data: bytes) -> bytes:
    """Return bytes of which some are others."""
    changed = bytearray(data)
    if not changed:
        return b"\0"
    at = rng.randrange(len(changed))
    match rng.randrange(6):
        case 0:
            changed[at] ^= 1 << rng.randrange(8)
        case 1:
            changed[at] = rng.randrange(256)
        case 2:
            del changed[at : at + rng.choice((1, 2, 4, 16))]
        case 3:
            changed[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16)))
        case 4:
            changed[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
        case _:
            del changed[at:]
    return bytes(changed)


def mutated_content(rng: Random, data: bytes, depth: int = 0) -> bytes:  # noqa: PLR0911 - one return a kind
    """Return the content of a record with something in it changed, as its kind suggests."""
    if data[:1] in b"\x80c(" and (parsed := pickle_mutations.parse(data)) and parsed[1] == len(data):
        return b"".join(pickle_mutations.mutate(rng, parsed[0]))
    if data[:1] == b"{" and rng.random() < 0.8:
        try:
            return json.dumps(mutate_json(rng, json.loads(data))).encode("utf-8", "surrogatepass")
        except ValueError:
            return mutated_bytes(rng, data)
    if data[:4] == b"PK\x03\x04" and depth < _DEPTH:
        return take_apart(data).mutated(rng)
    match rng.randrange(4):
        case 0:
            return rng.choice(_TEXTS)
        case 1:
            return data + bytes(rng.choice((1, 4, 8)))
        case 2:
            return data[: -rng.choice((1, 4, 8))]
        case _:
            return mutated_bytes(rng, data)


class BytesSample:
    """A file of one part."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def mutated(self, rng: Random) -> bytes:
        """Return it with a few other bytes."""
        return mutated_bytes(rng, self._data)


class ZipSample:
    """A zip archive as its records."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            self._records = [
                Record(info.filename, archive.read(info), 8 if info.compress_type == zipfile.ZIP_DEFLATED else 0)
                for info in archive.infolist()
            ]
        weights = [each.content[:1] in b"\x80{P" or each.name.endswith((".py", ".json")) for each in self._records]
        self._telling = [at for at, telling in enumerate(weights) if telling]

    def mutated(self, rng: Random) -> bytes:
        """Return it with a record's content changed, or the container."""
        chance = rng.random()
        if chance < 0.05 or not self._records:
            return mutated_bytes(rng, self._data)
        records, layout = [each.copy() for each in self._records], ZipLayout()
        if chance < 0.25:
            mutate_archive(rng, records, layout)
        if chance > 0.2:
            at = rng.choice(self._telling) if self._telling and rng.random() < 0.85 else rng.randrange(len(records))
            if at < len(records):
                records[at].content = mutated_content(rng, records[at].content)
        return zip_bytes(records, layout)


class StreamSample:
    """Pickles one after the other, and what follows them: the legacy format, or a lone pickle."""

    def __init__(self, data: bytes) -> None:
        self._pickles: list[pickle_mutations.Ops] = []
        at = 0
        while len(self._pickles) < 5 and (parsed := pickle_mutations.parse(data, at)):
            self._pickles.append(parsed[0])
            at = parsed[1]
        self._rest = data[at:]

    def mutated(self, rng: Random) -> bytes:
        """Return it with one pickle changed, most often the object's, or the storages."""
        pickles, rest = list(self._pickles), self._rest
        chance = rng.random()
        if chance < 0.1 or not pickles:
            rest = mutated_bytes(rng, rest)
        elif chance < 0.15:
            rng.choice((pickles.pop, functools.partial(pickles.append, rng.choice(pickles)), pickles.reverse))()
        else:
            at = min(3, len(pickles) - 1) if rng.random() < 0.75 else rng.randrange(len(pickles))
            pickles[at] = pickle_mutations.mutate(rng, pickles[at])
        return b"".join(b"".join(ops) for ops in pickles) + rest


class TarSample:
    """A tar file as its members."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            self._members = [
                Member(each.name.encode(), archive.extractfile(each).read())  # type: ignore[union-attr]
                for each in archive
                if each.isreg()
            ]

    def mutated(self, rng: Random) -> bytes:
        """Return it with a member changed, or the container."""
        chance = rng.random()
        if chance < 0.05 or not self._members:
            return mutated_bytes(rng, self._data)
        members = [each.copy() for each in self._members]
        if chance < 0.25:
            return mutate_members(rng, members)
        member = rng.choice(members)
        member.content = self._changed(rng, member.content)
        return pack(members)

    @staticmethod
    def _changed(rng: Random, content: bytes) -> bytes:
        """Return a member with one of its pickles changed, or a few bytes."""
        starts = [at for at in range(len(content) - 1) if content[at : at + 2] == b"\x80\x02"]
        if starts and rng.random() < 0.7:
            at = rng.choice(starts)
            if parsed := pickle_mutations.parse(content, at):
                return content[:at] + b"".join(pickle_mutations.mutate(rng, parsed[0])) + content[parsed[1] :]
        return mutated_bytes(rng, content)


class SafetensorsSample:
    """A safetensors file as its header and its bytes."""

    def __init__(self, data: bytes) -> None:
        length = int.from_bytes(data[:8], "little")
        self._header: dict[str, Any] = json.loads(data[8 : 8 + length])
        self._body = data[8 + length :]

    def mutated(self, rng: Random) -> bytes:
        """Return it with another header, or other bytes behind it."""
        body = self._body
        text, length = mutate_header(rng, self._header)
        if rng.random() < 0.08:
            body = mutated_bytes(rng, body)
        if rng.random() < 0.05:
            text = mutated_bytes(rng, text)
        return struct.pack("<Q", len(text) if length is None else length) + text + body


Build = Callable[[], bytes]
