"""Where the bytes of a version are held too: what few rows tell, however many versions there are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.metadata.lookup import get_model, get_version_number, visible
from storage.metadata.records import Sight
from storage.metadata.session import Transactional, reads
from storage.metadata.tables import ArtifactRow, ExtentRow, ModelRow, ObjectRow, StorageRow, VersionRow

MAX_OBJECTS = 8
"""Objects of a team that are looked at: those that hold most of a version."""
MAX_EXTENTS = 2_000
"""Extents of one object that are looked at, in no promised order: usually the oldest. An artifact has up to 1,024."""
MAX_ARTIFACTS = 100
"""Artifacts that these may be of."""


class Relative(NamedTuple):
    """An older version that holds some of the same bytes."""

    team: str
    model: str
    number: int


class Relatives(Transactional):
    """The part of the catalog that knows which versions have bytes in common."""

    @reads
    def find_base(self, session: Session, team: str, model: str, number: int) -> Relative | None:
        """Return the version that another one's push named as its base; None where it named none, or it is gone.

        Whether the caller may read it is not asked here.
        """
        version = get_version_number(session, get_model(session, team, model), number, include_quarantined=True)
        if version.base_id is None:
            return None
        live = VersionRow.deleted_at.is_(None), ModelRow.deleted_at.is_(None), VersionRow.quarantined_at.is_(None)
        query = (
            select(ModelRow.team, ModelRow.name, VersionRow.number)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(VersionRow.id == version.base_id, *live)
        )
        found = session.execute(query).one_or_none()
        return None if found is None else Relative(*found)

    @reads
    def find_relatives(
        self,
        session: Session,
        version: Relative,
        storages: Sequence[str],
        sight: Sight,
        limit: int,
    ) -> list[Relative]:
        """Return older versions of the same team that hold bytes of a version: probably those that hold most of it.

        The one before it in its model is always among them: whole files that came apart may hold the same bytes twice.
        Costs a few look-ups by index: the objects that the version lies in, those that hold its storages, and at most
        `MAX_OBJECTS` times `MAX_EXTENTS` extents of them, whatever the team has.

        Args:
            session: of a read transaction.
            version: whose relatives are wanted.
            storages: digests of its storages, at most some hundred: the largest tell most.
            sight: what the caller may read.
            limit: versions at most; of those that promise the same, the oldest and the newest.
        """
        row = get_version_number(session, get_model(session, version.team, version.model), version.number)
        shares = _object_shares(session, row, version.team, storages)
        objects = sorted(shares, key=lambda each: (-shares[each], each))[:MAX_OBJECTS]
        held: dict[int, set[int]] = {}
        for each in objects:
            extents = select(ExtentRow.artifact_id).where(ExtentRow.object_id == each).limit(MAX_EXTENTS).subquery()
            for artifact_id in session.scalars(select(extents.c.artifact_id).distinct().limit(MAX_ARTIFACTS)):
                held.setdefault(artifact_id, set()).add(each)
        query = (
            select(ArtifactRow.id, VersionRow.id, ModelRow.team, ModelRow.name, VersionRow.number)
            .join(VersionRow, VersionRow.id == ArtifactRow.version_id)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(ArtifactRow.id.in_(held), VersionRow.id < row.id, ModelRow.team == version.team)
            .where(VersionRow.deleted_at.is_(None), ModelRow.deleted_at.is_(None))
            .where(VersionRow.quarantined_at.is_(None), *visible(sight))
        )
        promised: dict[tuple[int, Relative], set[int]] = {}
        for artifact_id, version_id, team, model, number in session.execute(query):
            promised.setdefault((version_id, Relative(team, model, number)), set()).update(held[artifact_id])
        chosen = _choose({key: sum(shares[each] for each in found) for key, found in promised.items()}, limit - 1)
        before = _find_previous(session, row)
        previous = [] if before is None else [Relative(version.team, version.model, before)]
        return list(dict.fromkeys([*chosen, *previous]))


def _object_shares(session: Session, version: VersionRow, team: str, storages: Sequence[str]) -> Mapping[int, int]:
    """Return how many bytes of a version objects hold, as far as its extents and storages tell."""
    lies = (
        select(ExtentRow.object_id, func.sum(ExtentRow.length))
        .join(ArtifactRow, ArtifactRow.id == ExtentRow.artifact_id)
        .where(ArtifactRow.version_id == version.id)
        .group_by(ExtentRow.object_id)
    )
    holds = (
        select(StorageRow.object_id, func.sum(StorageRow.length))
        .join(ObjectRow, ObjectRow.id == StorageRow.object_id)
        .where(StorageRow.team == team, StorageRow.digest.in_(storages))
        .group_by(StorageRow.object_id)
    )
    shares: Counter[int] = Counter()
    for query in (lies, holds):
        for object_id, size_bytes in session.execute(query):
            shares[object_id] = max(shares[object_id], int(size_bytes))
    return shares


def _find_previous(session: Session, version: VersionRow) -> int | None:
    """Return the highest number below that of a version that is live in its model."""
    query = select(VersionRow.number).where(VersionRow.model_id == version.model_id, VersionRow.number < version.number)
    live = query.where(VersionRow.deleted_at.is_(None), VersionRow.quarantined_at.is_(None))
    return session.scalars(live.order_by(VersionRow.number.desc()).limit(1)).one_or_none()


def _choose(promised: Mapping[tuple[int, Relative], int], limit: int) -> list[Relative]:
    """Return the most promising, of equal ones the oldest and the newest in turn."""
    oldest = sorted(promised, key=lambda each: (-promised[each], each[0]))
    newest = sorted(promised, key=lambda each: (-promised[each], -each[0]))
    turns = [each for pair in zip(oldest, newest, strict=True) for each in pair]
    return [relative for _, relative in dict.fromkeys(turns)][:limit]
