"""Architectures in the catalog: what the index finds, and which versions have what it finds."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import chain
from typing import NamedTuple

from sqlalchemy import delete, exists, insert, select
from sqlalchemy.orm import Session

from registry.matches import CompatibleVersion
from storage.metadata.architecture_queries import (
    ASKED_COLUMNS,
    sharing_query,
    used_query,
    uses_query,
    versions_query,
)
from storage.metadata.architecture_tables import ArchitectureMarkRow, ArchitectureRow, ArchitectureUseRow
from storage.metadata.records import NewArchitecture, NewVersion, UseQuery
from storage.metadata.session import Transactional, insert_for, reads, reads_once
from storage.metadata.tables import ModelRow, VersionRow

_BATCH = 1000


class Sharing(NamedTuple):
    """An architecture that has some of the marks that were asked for.

    Attributes:
        architecture_id, digest, weight_count: of its row.
        worth: of the features that it has, each as often as it was asked for at most.
        submodules: the places, in the order of the question, of those that it has as well.
    """

    architecture_id: int
    digest: str
    weight_count: int
    worth: float
    submodules: frozenset[int]


class ArchitectureUses(NamedTuple):
    """The versions that have an architecture and are in use: live, not deprecated, not quarantined.

    Attributes:
        version_count, model_count: how many they are, and their models.
        versions: of the models that were used last, the newest each; several where it has the architecture twice.
    """

    version_count: int
    model_count: int
    versions: list[CompatibleVersion]


class Architectures(Transactional):
    """The part of the catalog that knows architectures."""

    @reads_once
    def find_sharing(
        self,
        session: Session,
        wanted: Mapping[int, tuple[int, float]],
        modules: Mapping[int, int],
        *,
        worth_least: float,
        used_least: float,
    ) -> list[Sharing]:
        """Return the architectures whose marks are worth enough, or of which a submodule is a large enough share.

        Features are asked for by mark, with how often and what one is worth; submodules with how many tensors one has.
        """
        rows: list[tuple[int | float | None, ...]]
        rows = [(mark, count, float(worth), 0, None) for mark, (count, worth) in wanted.items()]
        rows += [(mark, 0, 0.0, size, at) for at, (mark, size) in enumerate(modules.items())]
        if not rows:
            return []
        asked = json.dumps([dict(zip(ASKED_COLUMNS, row, strict=True)) for row in rows])
        least = {"worth_least": worth_least, "used_least": used_least}
        found = session.execute(sharing_query(_dialect(session)), {"asked": asked, **least})
        return [
            Sharing(architecture_id, digest, count, worth, frozenset(map(int, places.split(",") if places else ())))
            for architecture_id, digest, count, worth, places in found
        ]

    @reads_once
    def find_used(
        self, session: Session, architecture_ids: Collection[int], wanted: UseQuery, *, known: Collection[int] = ()
    ) -> dict[int, bytes | None]:
        """Return the architectures that any version in use has, with their compressed documents unless those are known.

        For each the first such version ends the look.
        """
        values = {"ids": list(architecture_ids), "known": list(known)}
        found = session.execute(used_query(_dialect(session), wanted), values)
        return {row[0]: row[1] for row in found}

    @reads
    def find_uses(
        self, session: Session, architecture_ids: Collection[int], wanted: UseQuery, *, shown: int
    ) -> dict[int, ArchitectureUses]:
        """Return the uses of those of the architectures that have any, with so many models: reads all those versions.

        A model is told by the newest of its versions that have the architecture.
        """
        counted_models = session.execute(uses_query(_dialect(session), wanted), {"ids": list(architecture_ids)})
        models: dict[int, list[tuple[int, int]]] = {}
        for architecture_id, _, count, newest in counted_models:
            models.setdefault(architecture_id, []).append((newest, count))
        last = {at: {newest for newest, _ in nlargest(shown, counted)} for at, counted in models.items()}
        versions: dict[int, list[CompatibleVersion]] = {at: [] for at in models}
        for architecture_id, version_id, version in _describe_versions(session, last):
            if version_id in last[architecture_id]:
                versions[architecture_id].append(version)
        return {
            at: ArchitectureUses(sum(count for _, count in counted), len(counted), versions[at])
            for at, counted in models.items()
        }

    @reads
    def find_known_architectures(self, session: Session, digests: Collection[str]) -> set[str]:
        """Return which of the digests the index has."""
        return set(session.scalars(select(ArchitectureRow.digest).where(ArchitectureRow.digest.in_(digests))))


def _dialect(session: Session) -> str:
    return session.get_bind().dialect.name


def _describe_versions(
    session: Session, chosen: Mapping[int, Collection[int]]
) -> Iterator[tuple[int, int, CompatibleVersion]]:
    """Yield, newest first, versions chosen by architecture, each with both ids; some may be chosen for another one."""
    if not chosen:
        return
    values = {"ids": list(chosen), "version_ids": list(set(chain.from_iterable(chosen.values())))}
    found = session.execute(versions_query(_dialect(session)), values)
    for architecture_id, version_id, team, model, number, kind, created_at, path, part in found:
        yield (
            architecture_id,
            version_id,
            CompatibleVersion(
                team=team, model=model, number=number, kind=kind, created_at=created_at, path=path, part=part
            ),
        )


def record_uses(session: Session, new: NewVersion, model: ModelRow, version: VersionRow) -> None:
    """Put the architectures of a new version into the index, those that it did not have in digest order."""
    distinct = {use.architecture.digest: use.architecture for use in new.uses}
    ids = {digest: _ensure(session, architecture) for digest, architecture in sorted(distinct.items())}
    rows = [
        {
            "version_id": version.id,
            "position": position,
            "architecture_id": ids[use.architecture.digest],
            "model_id": model.id,
            "path": use.path,
            "part": use.part,
        }
        for position, use in enumerate(new.uses)
    ]
    if rows:
        session.execute(insert(ArchitectureUseRow), rows)


def _ensure(session: Session, architecture: NewArchitecture) -> int:
    same = select(ArchitectureRow.id).where(ArchitectureRow.digest == architecture.digest)
    known = session.scalars(same).one_or_none()
    if known is not None:
        return known
    statement = insert_for(session, ArchitectureRow).values(
        digest=architecture.digest, weight_count=architecture.weight_count, document=architecture.document
    )
    conflict = statement.on_conflict_do_nothing(index_elements=[ArchitectureRow.digest])
    inserted = session.scalar(conflict.returning(ArchitectureRow.id))
    if inserted is None:
        return session.scalars(same).one()
    marks = sorted(architecture.marks.items())
    for start in range(0, len(marks), _BATCH):
        batch = marks[start : start + _BATCH]
        rows = [{"mark": mark, "architecture_id": inserted, "count": count} for mark, count in batch]
        session.execute(insert(ArchitectureMarkRow), rows)
    return inserted


def forget_uses(session: Session, version: VersionRow) -> None:
    """Take a version out of the index, and with it the architectures that no other version has."""
    which = ArchitectureUseRow.version_id == version.id
    ids: Sequence[int] = session.scalars(select(ArchitectureUseRow.architecture_id).where(which).distinct()).all()
    session.execute(delete(ArchitectureUseRow).where(which))
    used = exists().where(ArchitectureUseRow.architecture_id == ArchitectureRow.id)
    session.execute(delete(ArchitectureRow).where(ArchitectureRow.id.in_(ids), ~used))
