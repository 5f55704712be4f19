"""The life of a registry whose people push fine-tunes of one another, of which only what is new is sent."""

import hypothesis.strategies as st
import torch
from deltas import announce, claim, saved, sent_of
from hypothesis.stateful import precondition, rule
from planned_life import EXPIRE_MINUTES, Planned, PlannedLife
from registry_life import CALLER, MODELS, PICKS, Remembered

from registry.uploads import UploadCreate
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
    """As `PlannedLife`, with fine-tunes. Bytes stay as they were stored: what is damaged is told for whole objects."""

    def __init__(self) -> None:
        super().__init__()
        self.deltas: list[Planned] = []

    def damage(self, pick: int) -> None:
        """Change nothing."""

    def mend(self, pick: int) -> None:
        """Have nothing to mend."""

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
        completion = begin_completing(self.stores, CALLER, *named, "holder")
        assert isinstance(completion, Completion)
        version = complete(completion)
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
