"""Tar files written header by header: members changed, and headers that lie under a right checksum."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

_BLOCK = 512
_PLACES: dict[str, tuple[int, int]] = {
    "name": (0, 100), "mode": (100, 8), "owner": (108, 8), "group": (116, 8), "size": (124, 12), "time": (136, 12),
    "sum": (148, 8), "kind": (156, 1), "link": (157, 100), "magic": (257, 8), "major": (329, 8),
    "minor": (337, 8), "prefix": (345, 155),
}  # fmt: skip
"""Where a field of a header begins, and how long it is, in bytes (POSIX 1003.1, ustar)."""
_NAMES = (b"pickle", b"tensors", b"storages", b"sys_info", b"other", b"a/b", b"../pickle", b"pickle\0x", b"./pickle")
_VALUES: dict[str, tuple[bytes, ...]] = {
    "kind": (b"\0", b"1", b"2", b"5", b"7", b"L", b"K", b"x", b"g", b"S", b"3"),
    "size": (b"", b"0", b"00000000001", b"7777777", b"-1", b"0x10", b"\x80\0\0\0\0\0\0\0\0\0\0\1", b"1 2", b"08"),
    "sum": (b"0", b"", b"\0\0\0\0\0\0\0\0"),
    "magic": (b"ustar  \0", b"ustar\0", b"ustar\x0099", b"ustax\0", b""),
    "prefix": (b"a", b"pickle", b"\0a"),
    "link": (b"pickle", b"/etc/passwd"),
    "mode": (b"", b"zzz", b"\xff" * 8),
    "owner": (b"zzz", b"\x80\1"),
    "time": (b"-1", b"zzz"),
    "major": (b"zzz", b"7"),
}
_RECORDS = (
    b"comment=x", b"path=pickle", b"size=1", b"mtime=1.5", b"mtime=zzz", b"linkpath=x", b"GNU.sparse.size=40",
    b"GNU.sparse.map=0,8,16,8", b"GNU.sparse.name=pickle", b"GNU.sparse.major=1", b"GNU.sparse.minor=0",
    b"GNU.sparse.realsize=9", b"hdrcharset=BINARY", b"uid=-1", b"uid=zzz", b"uname=\xe9",
)  # fmt: skip


@dataclass(slots=True)
class Member:
    """One member; what is in `lies` stands in its header in the place of the truth."""

    name: bytes
    content: bytes
    lies: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def copy(self) -> "Member":
        """Return another one that may be changed."""
        return Member(self.name, self.content, dict(self.lies))


def pack(members: list[Member], end: bytes = bytes(2 * _BLOCK)) -> bytes:
    """Return a tar file of these members, in this order."""
    blocks: list[bytes] = []
    for each in members:
        blocks += [_header(each), each.content, bytes(-len(each.content) % _BLOCK)]
    return b"".join([*blocks, end])


def _header(member: Member) -> bytes:
    header = bytearray(_BLOCK)
    truth = {
        "name": member.name, "mode": b"0000644", "owner": b"0000000", "group": b"0000000",
        "size": b"%011o" % len(member.content), "time": b"00000000000", "sum": b" " * 8, "kind": b"0",
        "magic": b"ustar\x0000",
    }  # fmt: skip
    for name, value in {**truth, **member.lies, "sum": b" " * 8}.items():
        at, length = _PLACES[name]
        header[at : at + length] = value[:length].ljust(length, b"\0")
    at, length = _PLACES["sum"]
    header[at : at + length] = member.lies.get("sum", b"%06o\0 " % sum(header)).ljust(length, b"\0")
    return bytes(header)


def mutate_members(rng: Random, members: list[Member]) -> bytes:
    """Change the members, or what ends them, in one way, and return the tar file."""
    rng.choice(_CHANGES)(rng, members)
    end = bytes(2 * _BLOCK) if rng.random() < 0.9 else rng.choice((b"", bytes(_BLOCK), bytes(100), b"x" * _BLOCK))
    return pack(members, end)


def _drop(rng: Random, members: list[Member]) -> None:
    del members[rng.randrange(len(members))]


def _repeat(rng: Random, members: list[Member]) -> None:
    members.insert(rng.randrange(len(members) + 1), rng.choice(members).copy())


def _rename(rng: Random, members: list[Member]) -> None:
    rng.choice(members).name = rng.choice(_NAMES)


def _reorder(rng: Random, members: list[Member]) -> None:
    rng.shuffle(members)


def _exchange(rng: Random, members: list[Member]) -> None:
    one, other = rng.choice(members), rng.choice(members)
    one.content, other.content = other.content, one.content


def _lie(rng: Random, members: list[Member]) -> None:
    name = rng.choice(tuple(_VALUES))
    rng.choice(members).lies[name] = rng.choice(_VALUES[name])


def _extend(rng: Random, members: list[Member]) -> None:
    """Put an extended header (PAX) before a member."""
    records = b"".join(_record(rng.choice(_RECORDS)) for _ in range(rng.choice((1, 1, 2))))
    members.insert(rng.randrange(len(members) + 1), Member(b"pax", records, {"kind": rng.choice((b"x", b"x", b"g"))}))


def _record(text: bytes) -> bytes:
    """Return a record of an extended header: its own length, which counts its digits, and a text."""
    length = next(total for total in range(len(text), 2 * len(text) + 9) if total == len(text) + 2 + len(str(total)))
    return b"%d %s\n" % (length, text)


_CHANGES: tuple[Callable[[Random, list[Member]], None], ...] = (
    _drop, _repeat, _rename, _reorder, _exchange, _lie, _lie, _lie, _extend,
)  # fmt: skip
