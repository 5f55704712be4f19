"""The life of a registry whose people push fine-tunes of one another, of which only what is new is sent."""

import hypothesis.strategies as st
import pytest
import torch
from deltas import announce, claim, saved, sent_of
from hypothesis.stateful import precondition, rule
from planned_life import EXPIRE_MINUTES, Planned, PlannedLife
from registry_life import CALLER, MODELS, PICKS, Remembered

from registry.errors import BlobDamagedError, PlanStaleError
from registry.uploads import UploadCreate
from storage.fsck import fsck
from storage.read import get_artifact, get_version
from storage.repack import repack
from storage.uploads.completing import Completion, abort_upload, begin_completing, complete
from storage.uploads.parts import find_upload, open_part
from storage.uploads.planning import plan_upload
from storage.uploads.reuse import ranges_to_send


def _tuned(head: int, middle: int) -> bytes:
    """Return a net whose backbone all have, and of whose other layers some have each."""
    seeds = {"backbone": 100, "middle": 200 + middle, "head": 300 + head}
    state = {name: torch.randn(48, 48, generator=torch.Generator().manual_seed(seed)) for name, seed in seeds.items()}
    return saved(state)


TUNED = tuple(_tuned(head, middle) for head in range(3) for middle in range(2))
CLAIMS = {content: claim(content) for content in TUNED}


class DeltaLife(PlannedLife):
    """As `PlannedLife`, with fine-tunes. What is damaged is an object, and so whatever has a part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.deltas: list[Planned] = []
        self.hurt: set[str] = set()

    @rule(pick=PICKS)
    def damage(self, pick: int) -> None:
        """Change an object behind the registry's back, and let it find out."""
        for version in self._pick(pick, lambda each: not each.is_deleted and not self._damage_of(each)):
            extents = get_artifact(self.stores, CALLER, *self._name(version), "0.pt").extents
            location = extents[pick % len(extents)].location
            content = self.behind.read(f"objects/{location}")
            self.behind.put(f"objects/{location}", content[:-1] + bytes([content[-1] ^ 1]))
            assert list(fsck(self.stores, CALLER, reads_bytes=True, repairs=True))
            self.hurt.add(location)

    @precondition(lambda self: self.hurt)
    @rule(pick=PICKS, by_delta=st.booleans())
    def mend(self, pick: int, by_delta: bool) -> None:  # noqa: FBT001 - drawn by name
        """Push a file again of which stored bytes are damaged: every version that has it is whole again."""
        for version in self._pick(pick, lambda each: not each.is_deleted and bool(self._damage_of(each))):
            content = version.files[self._damage_of(version)[0]]
            if by_delta and content in CLAIMS:
                self.plan_fine_tune("other", TUNED.index(content))
                self.complete_fine_tune(-1)
            else:
                self.send("other", {"0.pt": content})
                self.finish_push(-1)
            live = [each for each in self.versions if not each.is_deleted]
            assert content not in [each.files[path] for each in live for path in self._damage_of(each)]

    def _name(self, version: Remembered) -> tuple[str, str, str]:
        return self.team, version.model, str(version.number)

    def _damage_of(self, version: Remembered) -> list[str]:
        return get_version(self.stores, CALLER, *self._name(version)).damaged

    def _look(self, version: Remembered, path: str, content: bytes) -> None:
        """See that a file is whole, or told as damaged because an object of it was."""
        if path not in self._damage_of(version):
            super()._look(version, path, content)
            return
        with pytest.raises(BlobDamagedError):
            get_artifact(self.stores, CALLER, *self._name(version), path)
        extents = self.stores.catalog.get_artifact(*self._name(version), path).extents
        assert self.hurt & {extent.location for extent in extents}

    @rule(model=MODELS, which=st.integers(0, len(TUNED) - 1))
    def plan_fine_tune(self, model: str, which: int) -> None:
        """Plan a fine-tune over what is stored now."""
        content = TUNED[which]
        create = {"metadata": {"artifacts": {"0.pt": announce(content)}}, "tiles": {"0.pt": CLAIMS[content]}}
        asked = UploadCreate.model_validate({**create, "direct": False})
        self.deltas.append(
            Planned(plan_upload(self.stores, CALLER, self.team, model, asked, None), {"0.pt": content}, set())
        )

    @precondition(lambda self: self.deltas)
    @rule(pick=PICKS)
    def complete_fine_tune(self, pick: int) -> None:
        """Send what was planned and complete it, whatever has gone meanwhile."""
        planned = self.deltas.pop(pick % len(self.deltas))
        named = self.team, planned.upload.model, planned.upload.id
        [file] = find_upload(self.stores, CALLER, *named).files
        content = planned.files["0.pt"]
        pack = content if file.extents is None else sent_of(content, ranges_to_send(file.extents))
        if pack:
            _, writer = open_part(self.stores, CALLER, planned.upload, 0, 1)
            with writer:
                writer.write([pack])
                writer.keep()
        try:
            completion = begin_completing(self.stores, CALLER, *named, "holder")
            assert isinstance(completion, Completion)
            version = complete(completion)
        except PlanStaleError:
            assert self.hurt
            return
        self.versions.append(Remembered(planned.upload.model, version.number, planned.files))

    @precondition(lambda self: self.deltas)
    @rule(pick=PICKS)
    def abort_fine_tune(self, pick: int) -> None:
        """Abort a fine-tune."""
        planned = self.deltas.pop(pick % len(self.deltas))
        abort_upload(self.stores, CALLER, self.team, planned.upload.model, planned.upload.id)

    @rule()
    def repack(self) -> None:
        """Write anew what purges left mostly dead."""
        repack(self.stores, CALLER)

    def time_passed(self, minutes: int) -> None:
        """Let fine-tunes expire that wait too long."""
        super().time_passed(minutes)
        if minutes > EXPIRE_MINUTES:
            self.deltas.clear()
