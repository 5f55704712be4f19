"""The life of a registry whose people also plan uploads, send some of the parts, and complete or forget them."""

from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import precondition, rule
from registry_life import CALLER, CONTENTS, MIXES, MODELS, PICKS, Life, Remembered

from registry.errors import IncompleteUploadError, UploadNotFoundError
from registry.schema import VersionInfo
from registry.uploads import UploadCreate
from storage.metadata.upload_records import UploadRecord
from storage.uploads.completing import Completion, abort_upload, begin_completing, complete
from storage.uploads.parts import find_upload, open_part
from storage.uploads.planning import plan_upload

EXPIRE_MINUTES = 24 * 60


@dataclass(slots=True)
class Planned:
    """An upload that has not ended, as far as people know, and which of its files were sent."""

    upload: UploadRecord
    files: dict[str, bytes]
    sent: set[int]


class PlannedLife(Life):
    """As `Life`, with planned uploads."""

    def __init__(self) -> None:
        super().__init__()
        self.planned: list[Planned] = []

    @rule(model=MODELS, mix=MIXES)
    def plan(self, model: str, mix: list[int]) -> None:
        """Plan an upload."""
        files = {f"{place}.pt": CONTENTS[each] for place, each in enumerate(mix)}
        announced = {path: {"size_bytes": len(content)} for path, content in files.items()}
        create = UploadCreate.model_validate({"metadata": {"artifacts": announced}, "direct": False})
        upload = plan_upload(self.stores, CALLER, self.team, model, create, None)
        self.planned.append(Planned(upload, files, set()))

    @precondition(lambda self: self.planned)
    @rule(pick=PICKS, position=st.integers(0, 1), keeps=st.booleans())
    def send_part(self, pick: int, position: int, keeps: bool) -> None:  # noqa: FBT001 - drawn by name
        """Send a file of an upload, all of it or half."""
        planned = self.planned[pick % len(self.planned)]
        position %= len(planned.files)
        content = list(planned.files.values())[position]
        _, writer = open_part(self.stores, CALLER, self._look_up(planned), position, 1)
        with writer:
            writer.write([content if keeps else content[: len(content) // 2]])
            if keeps:
                writer.keep()
                planned.sent.add(position)
            elif self.stores.blobs.reads_gathered:  # begun again in place, so that it has to come again
                planned.sent.discard(position)

    @precondition(lambda self: self.planned)
    @rule(pick=PICKS)
    def complete_upload(self, pick: int) -> None:
        """Complete an upload, perhaps before all is there."""
        planned = self.planned[pick % len(self.planned)]
        named = self.team, planned.upload.model, planned.upload.id
        if len(planned.sent) < len(planned.files):
            with pytest.raises(IncompleteUploadError):
                begin_completing(self.stores, CALLER, *named, "holder")
            return
        completion = begin_completing(self.stores, CALLER, *named, "holder")
        assert isinstance(completion, Completion)
        version = complete(completion)
        again = begin_completing(self.stores, CALLER, *named, "another")
        assert isinstance(again, VersionInfo)
        assert again.number == version.number
        self.planned.remove(planned)
        self.versions.append(Remembered(planned.upload.model, version.number, planned.files))
        self.damaged -= set(planned.files.values())

    @precondition(lambda self: self.planned)
    @rule(pick=PICKS)
    def abort(self, pick: int) -> None:
        """Abort an upload."""
        planned = self.planned.pop(pick % len(self.planned))
        abort_upload(self.stores, CALLER, self.team, planned.upload.model, planned.upload.id)

    def time_passed(self, minutes: int) -> None:
        """Let what waits too long expire; after a month nobody is told of it any more."""
        super().time_passed(minutes)
        if minutes > EXPIRE_MINUTES:
            for planned in self.planned:
                with pytest.raises(UploadNotFoundError):
                    self._look_up(planned)
            self.planned.clear()

    def _look_up(self, planned: Planned) -> UploadRecord:
        return find_upload(self.stores, CALLER, self.team, planned.upload.model, planned.upload.id)
