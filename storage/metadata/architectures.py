"""Architectures in the catalog: what the index finds, and which versions have what it finds."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import chain
from typing import NamedTuple, TypeVarTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Double,
    Integer,
    Select,
    Text,
    any_,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry.matches import CompatibleVersion
from storage.metadata.architecture_tables import ArchitectureMarkRow, ArchitectureRow, ArchitectureUseRow
from storage.metadata.lookup import visible
from storage.metadata.records import NewArchitecture, NewVersion, UseQuery
from storage.metadata.session import Transactional, insert_for, reads, reads_once
from storage.metadata.tables import AnnotationsRow, ModelRow, VersionRow

_BATCH = 1000
ColumnsT = TypeVarTuple("ColumnsT")
_COLUMNS = ("mark", "count", "worth", "size", "place")
_TYPES = (BigInteger, Integer, Double, Integer, Text)
_ASKED = {
    name: text(statement).columns(**dict(zip(_COLUMNS, _TYPES, strict=True)))
    for name, statement in {
        "postgresql": "SELECT * FROM json_to_recordset(CAST(:asked AS JSON)) "
        "AS row(mark BIGINT, count INTEGER, worth DOUBLE PRECISION, size INTEGER, place TEXT)",
        "sqlite": "SELECT json_extract(value, '$.mark') AS mark, json_extract(value, '$.count') AS count, "
        "json_extract(value, '$.worth') AS worth, json_extract(value, '$.size') AS size, "
        "json_extract(value, '$.place') AS place FROM json_each(:asked)",
    }.items()
}
"""What a question asks for as a table, from one parameter: a text that stays the same is prepared once."""


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
        asked = _ASKED[session.get_bind().dialect.name].cte("asked").prefix_with("MATERIALIZED")
        mark, architecture = ArchitectureMarkRow, ArchitectureRow
        worth = func.sum(case((mark.count < asked.c.count, mark.count), else_=asked.c.count) * asked.c.worth)
        size = func.max(asked.c.size)
        shared = (
            select(
                mark.architecture_id,
                worth.label("worth"),
                size.label("size"),
                func.aggregate_strings(asked.c.place, ",").label("places"),
            )
            .select_from(asked)
            .join(mark, mark.mark == asked.c.mark)
            .group_by(mark.architecture_id)
            .having((worth >= worth_least) | (size > 0))
            .subquery("shared")
        )
        enough = (shared.c.worth >= worth_least) | (shared.c.size >= used_least * architecture.weight_count)
        query = (
            select(architecture.id, architecture.digest, architecture.weight_count, shared.c.worth, shared.c.places)
            .join(shared, shared.c.architecture_id == architecture.id)
            .where(enough)
        )
        found = session.execute(query, {"asked": json.dumps([dict(zip(_COLUMNS, row, strict=True)) for row in rows])})
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
        use = _in_use(select(ArchitectureUseRow.version_id), wanted)
        any_use = use.where(ArchitectureUseRow.architecture_id == ArchitectureRow.id).correlate(ArchitectureRow)
        document = case((~_is_among(session, ArchitectureRow.id, known), ArchitectureRow.document))
        query = select(ArchitectureRow.id, document)
        query = query.where(_is_among(session, ArchitectureRow.id, architecture_ids), any_use.exists())
        return {row[0]: row[1] for row in session.execute(query)}

    @reads
    def find_uses(
        self, session: Session, architecture_ids: Collection[int], wanted: UseQuery, *, shown: int
    ) -> dict[int, ArchitectureUses]:
        """Return the uses of those of the architectures that have any, with so many models: reads all those versions.

        A model is told by the newest of its versions that have the architecture.
        """
        columns = (ArchitectureUseRow.architecture_id, ModelRow.id)
        query = _in_use(select(*columns, func.count(VersionRow.id.distinct()), func.max(VersionRow.id)), wanted)
        query = query.where(_is_among(session, ArchitectureUseRow.architecture_id, architecture_ids)).group_by(*columns)
        models: dict[int, list[tuple[int, int]]] = {}
        for architecture_id, _, count, newest in session.execute(query):
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


def _is_among(session: Session, column: InstrumentedAttribute[int], values: Collection[int]) -> ColumnElement[bool]:
    """Return whether a column has one of the values; PostgreSQL then has one plan for any number of them."""
    if session.get_bind().dialect.name == "postgresql":
        return column == any_(literal(list(values), ARRAY(BigInteger)))
    return column.in_(values)


def _describe_versions(
    session: Session, chosen: Mapping[int, Collection[int]]
) -> Iterator[tuple[int, int, CompatibleVersion]]:
    """Yield, newest first, versions chosen by architecture, each with both ids; some may be chosen for another one."""
    if not chosen:
        return
    query = (
        select(
            ArchitectureUseRow.architecture_id,
            VersionRow.id,
            ModelRow.team,
            ModelRow.name,
            VersionRow.number,
            VersionRow.kind,
            VersionRow.created_at,
            ArchitectureUseRow.path,
            ArchitectureUseRow.part,
        )
        .join(ModelRow, ModelRow.id == ArchitectureUseRow.model_id)
        .join(VersionRow, VersionRow.id == ArchitectureUseRow.version_id)
        .where(_is_among(session, ArchitectureUseRow.version_id, set(chain.from_iterable(chosen.values()))))
        .where(_is_among(session, ArchitectureUseRow.architecture_id, chosen))
        .order_by(VersionRow.id.desc(), ArchitectureUseRow.position)
    )
    for architecture_id, version_id, team, model, number, kind, created_at, path, part in session.execute(query):
        yield (
            architecture_id,
            version_id,
            CompatibleVersion(
                team=team, model=model, number=number, kind=kind, created_at=created_at, path=path, part=part
            ),
        )


def _in_use(query: Select[*ColumnsT], wanted: UseQuery) -> Select[*ColumnsT]:
    """Return a query over uses that is left with the versions in use that are wanted."""
    # No join: PostgreSQL would rather read the annotations of all versions than look up those of a thousand.
    recommended = select(AnnotationsRow.deprecated.is_(None)).where(AnnotationsRow.version_id == VersionRow.id)
    query = (
        query.join_from(ArchitectureUseRow, ModelRow, ModelRow.id == ArchitectureUseRow.model_id)
        .join(VersionRow, VersionRow.id == ArchitectureUseRow.version_id)
        .where(ModelRow.deleted_at.is_(None), VersionRow.deleted_at.is_(None), VersionRow.quarantined_at.is_(None))
        .where(recommended.scalar_subquery(), *visible(wanted.sight))
    )
    if wanted.team is not None:
        query = query.where(ModelRow.team == wanted.team)
    return query if wanted.kind is None else query.where(VersionRow.kind == wanted.kind)


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
