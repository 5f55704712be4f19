"""The life of a registry, as random people lead it: what they did is remembered here and compared with what is stored.

A further rule is a method of a subclass; what must stay true is in `look_at_everything`.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from behind import Behind
from embedded import make_small_weights
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from registry.errors import BlobDamagedError, UnavailableError, VersionInUseError
from registry.schema import VersionCreate
from storage.access import Caller
from storage.aliases import list_aliases, move_alias
from storage.draft import Draft, begin
from storage.fsck import fsck
from storage.garbage import collect
from storage.publish import publish
from storage.read import get_artifact, get_version, iter_range
from storage.recording import write_due_records
from storage.stores import Stores
from storage.versions import delete_version, purge_version, restore_version

CALLER = Caller("tester", is_administrator=True)
CONTENTS = tuple(make_small_weights(seed) for seed in range(3))
MODELS = st.sampled_from(["net", "other"])
MIXES = st.lists(st.integers(0, len(CONTENTS) - 1), min_size=1, max_size=2)
PICKS = st.integers(0, 99)
ALIASES = st.sampled_from(["prod", "best"])


@dataclass(slots=True)
class Remembered:
    """A version as it was pushed: its files, and whether it is deleted."""

    model: str
    number: int
    files: dict[str, bytes]
    is_deleted: bool = False


@dataclass(slots=True)
class Begun:
    """A push whose bytes are there and that has no version yet."""

    draft: Draft
    model: str
    files: dict[str, bytes]
    was_given_up: bool = field(default=False)


class Life(RuleBasedStateMachine):
    """One team of an installation. `stores` and `behind` are set by the test."""

    stores: Stores
    behind: Behind

    def __init__(self) -> None:
        super().__init__()
        self.team = f"team{secrets.token_hex(6)}"
        self.versions: list[Remembered] = []
        self.aliases: dict[tuple[str, str], int] = {}
        self.damaged: set[bytes] = set()
        self.begun: list[Begun] = []

    @initialize()
    def begin(self) -> None:
        """Have something to work on."""
        self.push("net", [0])

    @rule(model=MODELS, mix=MIXES)
    def push(self, model: str, mix: list[int]) -> None:
        """Push files."""
        self.begin_push(model, mix)
        self.finish_push(-1)

    @rule(model=MODELS, mix=MIXES)
    def begin_push(self, model: str, mix: list[int]) -> None:
        """Send the bytes of a push."""
        self.send(model, {f"{place}.pt": CONTENTS[each] for place, each in enumerate(mix)})

    def send(self, model: str, files: dict[str, bytes]) -> None:
        """Send files that are to be a version."""
        draft = begin(self.stores, CALLER, self.team, model)
        for path, content in files.items():
            incoming = draft.open_file(path)
            incoming.write(content)
            draft.close_file(incoming)
        self.begun.append(Begun(draft, model, files))

    @precondition(lambda self: self.begun)
    @rule(pick=PICKS)
    def finish_push(self, pick: int) -> None:
        """Publish what was sent, unless it was given up meanwhile."""
        begun = self.begun.pop(pick % len(self.begun))
        if begun.was_given_up:
            with pytest.raises(UnavailableError):
                publish(begun.draft, VersionCreate())
            begun.draft.abandon()
            return
        version = publish(begun.draft, VersionCreate())
        self.versions.append(Remembered(begun.model, version.number, begun.files))
        self.damaged -= set(begun.files.values())

    @precondition(lambda self: self.begun)
    @rule(pick=PICKS)
    def abandon_push(self, pick: int) -> None:
        """Give a push up."""
        self.begun.pop(pick % len(self.begun)).draft.abandon()

    @rule(pick=PICKS, alias=ALIASES)
    def move_alias(self, pick: int, alias: str) -> None:
        """Point an alias at a live version."""
        for version in self._pick(pick, lambda each: not each.is_deleted):
            self._move(version.model, alias, version.number)

    def _move(self, model: str, alias: str, number: int) -> None:
        move_alias(self.stores, CALLER, self.team, model, alias, number, expected="any", reason="")
        self.aliases[model, alias] = number

    @rule(pick=PICKS)
    def delete(self, pick: int) -> None:
        """Delete a live version, unless an alias points at it."""
        for version in self._pick(pick, lambda each: not each.is_deleted):
            if version.number in [number for (model, _), number in self.aliases.items() if model == version.model]:
                with pytest.raises(VersionInUseError):
                    delete_version(self.stores, CALLER, self.team, version.model, str(version.number))
            else:
                delete_version(self.stores, CALLER, self.team, version.model, str(version.number))
                version.is_deleted = True

    @rule(pick=PICKS)
    def restore(self, pick: int) -> None:
        """Restore a deleted version."""
        for version in self._pick(pick, lambda each: each.is_deleted):
            restore_version(self.stores, CALLER, self.team, version.model, version.number)
            version.is_deleted = False

    @rule(pick=PICKS)
    def purge(self, pick: int) -> None:
        """Purge any version; the aliases that point at it go."""
        for version in self._pick(pick, lambda _: True):
            purge_version(self.stores, CALLER, self.team, version.model, version.number, "room", is_live=True)
            self._forget(version)

    @rule(minutes=st.sampled_from([0, 15, 32 * 24 * 60]))
    def collect(self, minutes: int) -> None:
        """Collect garbage, now or later: uploads that wait end, and what is deleted for long goes."""
        now = datetime.now(UTC) + timedelta(minutes=minutes)
        collect(self.stores, CALLER, now=now)
        self.time_passed(minutes)

    def time_passed(self, minutes: int) -> None:
        """Expect what a collection does that long after now."""
        for begun in self.begun:
            begun.was_given_up |= minutes > 0
        for version in [each for each in self.versions if each.is_deleted and minutes > 30 * 24 * 60]:
            self._forget(version)

    @rule(pick=PICKS)
    def damage(self, pick: int) -> None:
        """Change stored bytes behind the registry's back, and let it find out."""
        for version in self._pick(pick, lambda each: not each.is_deleted and "0.pt" in each.files):
            content = version.files["0.pt"]
            if content in self.damaged:
                continue
            [extent] = get_artifact(self.stores, CALLER, self.team, version.model, str(version.number), "0.pt").extents
            self.behind.put(f"objects/{extent.location}", content[:-1] + b"?")
            assert list(fsck(self.stores, CALLER, reads_bytes=True, repairs=True))
            self.damaged.add(content)

    @precondition(lambda self: self.damaged)
    @rule(pick=PICKS)
    def mend(self, pick: int) -> None:
        """Push damaged bytes again."""
        self.push("net", [CONTENTS.index(sorted(self.damaged)[pick % len(self.damaged)])])

    def _pick(self, pick: int, which: Callable[[Remembered], bool]) -> list[Remembered]:
        fitting = [each for each in self.versions if which(each)]
        return [fitting[pick % len(fitting)]] if fitting else []

    def _forget(self, version: Remembered) -> None:
        self.versions.remove(version)
        here = {key: number for key, number in self.aliases.items() if key[0] == version.model}
        for key in [key for key, number in here.items() if number == version.number]:
            del self.aliases[key]
        self.damaged &= {content for each in self.versions for content in each.files.values()}

    @invariant()
    def look_at_everything(self) -> None:
        """See that nothing was lost, nothing changed, and nothing is where it should not be."""
        for version in self.versions:
            if not version.is_deleted:
                for path, content in version.files.items():
                    self._look(version, path, content)
        for model in {model for model, _ in self.aliases}:
            listed = list_aliases(self.stores, CALLER, self.team, model)
            here = {alias: number for (named, alias), number in self.aliases.items() if named == model}
            assert {each.name: each.version for each in listed} == here
        write_due_records(self.stores)
        told = [finding for finding in fsck(self.stores, CALLER) if finding.repair != "it is marked as damaged"]
        assert told == []

    def _look(self, version: Remembered, path: str, content: bytes) -> None:
        named = self.team, version.model, str(version.number)
        info = get_version(self.stores, CALLER, *named)
        assert (path in info.damaged) == (content in self.damaged)
        if content in self.damaged:
            with pytest.raises(BlobDamagedError):
                get_artifact(self.stores, CALLER, *named, path)
            return
        extents = get_artifact(self.stores, CALLER, *named, path).extents
        assert b"".join(iter_range(self.stores.blobs, extents, 0, len(content))) == content

    def teardown(self) -> None:
        """Look once more, at all bytes; then purge everything and see that nothing is left."""
        found = [each for each in fsck(self.stores, CALLER, reads_bytes=True) if each.repair is None]
        for version in self.versions:
            purge_version(self.stores, CALLER, self.team, version.model, version.number, "room", is_live=True)
        for begun in self.begun:
            begun.draft.abandon()
        for days in (2, 40):  # what an upload held that expires goes a little later, also that of a month on
            collect(self.stores, CALLER, now=datetime.now(UTC) + timedelta(days=days))
        left = [*found, *self.stores.blobs.iter_locations()]
        assert left == [], left
