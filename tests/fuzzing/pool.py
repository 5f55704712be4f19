"""The files that are changed: by the kind that they are of, so that each kind gets its share."""

import zlib
from random import Random

from fuzzing.samples import Sample, take_apart

_SHARES = {
    "zip": 36, "legacy": 24, "tar": 7, "safetensors": 14, "torchscript": 7, "export": 6, "package": 4, "other": 2,
}  # fmt: skip
"""How often a kind is changed, in percent: most where torch can be asked what it reads."""
_KEPT_EACH = 800
"""Files of a kind kept to start from, besides the corpus."""
_AGAIN = 0.3
"""Share of executions that change such a file further."""
_SEEN_BITS = 28


def kind_of(data: bytes) -> str:
    """Return which kind of weight file these bytes are, by a glance."""
    if data.startswith(b"PK"):
        marks = {"torchscript": b"/constants.pkl", "export": b"/archive_format", "package": b"/.data/extern_modules"}
        return next((kind for kind, mark in marks.items() if mark in data), "zip")
    if data[257:262] == b"ustar":
        return "tar"
    return "safetensors" if data[8:9] == b"{" else "legacy" if data[:2] == b"\x80\x02" else "other"


class Pool:
    """Files taken apart, those of the corpus and those that were kept for what came of them."""

    def __init__(self, files: list[tuple[str, bytes]]) -> None:
        self._corpus: dict[str, list[tuple[str, Sample]]] = {kind: [] for kind in _SHARES}
        self._kept: dict[str, list[tuple[str, Sample]]] = {kind: [] for kind in _SHARES}
        for name, data in sorted(files, key=lambda each: len(each[1])):
            self._corpus[kind_of(data)].append((name, take_apart(data)))
        self._kinds = [kind for kind, samples in self._corpus.items() if samples]
        self._shares = [_SHARES[kind] for kind in self._kinds]
        self.kept: list[bytes] = []

    def choose(self, rng: Random) -> tuple[str, Sample]:
        """Return the name of a file of the corpus, and that file, or one that was made of it."""
        (kind,) = rng.choices(self._kinds, self._shares)
        samples = self._kept[kind] if rng.random() < _AGAIN and self._kept[kind] else self._corpus[kind]
        # The smallest of three: what small files do not show, large ones rarely do, and they take ten times as long.
        return samples[int(len(samples) * min(rng.random(), rng.random(), rng.random()))]

    def keep(self, name: str, data: bytes) -> None:
        """Take in a file that was made of the one called `name`."""
        samples = self._kept.setdefault(kind_of(data), [])
        if len(samples) < _KEPT_EACH:
            samples.append((name, take_apart(data)))
            self.kept.append(data)


class Seen:
    """Which files there were, nearly: one in some hundred new ones is taken for an old one."""

    def __init__(self) -> None:
        self._bits = bytearray(1 << _SEEN_BITS - 3)

    def add(self, data: bytes) -> bool:
        """Return whether a file is new, and remember it."""
        place, bit = divmod(zlib.crc32(data) & (1 << _SEEN_BITS) - 1, 8)
        new = not self._bits[place] >> bit & 1
        self._bits[place] |= 1 << bit
        return new
