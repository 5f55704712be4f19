"""What the index of architectures is asked: statements built once, since that takes longer than many an answer."""

from functools import lru_cache
from typing import Any, TypeAlias, TypeVarTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Double,
    Integer,
    Select,
    Text,
    any_,
    bindparam,
    case,
    func,
    select,
    text,
)
from sqlalchemy.orm import InstrumentedAttribute

from storage.metadata.architecture_tables import ArchitectureMarkRow, ArchitectureRow, ArchitectureUseRow
from storage.metadata.lookup import visible
from storage.metadata.records import UseQuery
from storage.metadata.tables import AnnotationsRow, ModelRow, VersionRow

ASKED_COLUMNS = ("mark", "count", "worth", "size", "place")
Query: TypeAlias = Select[*tuple[Any, ...]]
ColumnsT = TypeVarTuple("ColumnsT")
_KEPT = 50
"""Statements of each kind that are kept, of 25 kB: what a caller may read is in them, and so all of it is their key."""
_TYPES = (BigInteger, Integer, Double, Integer, Text)
_ASKED = {
    name: text(statement).columns(**dict(zip(ASKED_COLUMNS, _TYPES, strict=True)))
    for name, statement in {
        "postgresql": "SELECT * FROM json_to_recordset(CAST(:asked AS JSON)) "
        "AS row(mark BIGINT, count INTEGER, worth DOUBLE PRECISION, size INTEGER, place TEXT)",
        "sqlite": "SELECT json_extract(value, '$.mark') AS mark, json_extract(value, '$.count') AS count, "
        "json_extract(value, '$.worth') AS worth, json_extract(value, '$.size') AS size, "
        "json_extract(value, '$.place') AS place FROM json_each(:asked)",
    }.items()
}
"""What a question asks for as a table, from one parameter: a text that stays the same is prepared once."""


@lru_cache
def sharing_query(dialect: str) -> Query:
    """Return the query for the architectures that have enough of the marks that are asked for.

    Its parameters: `asked`, a JSON list of objects of `ASKED_COLUMNS`, `worth_least` and `used_least`.
    """
    asked = _ASKED[dialect].cte("asked").prefix_with("MATERIALIZED")
    mark, architecture = ArchitectureMarkRow, ArchitectureRow
    worth = func.sum(case((mark.count < asked.c.count, mark.count), else_=asked.c.count) * asked.c.worth)
    size = func.max(asked.c.size)
    worth_least, used_least = bindparam("worth_least", type_=Double), bindparam("used_least", type_=Double)
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
    return (
        select(architecture.id, architecture.digest, architecture.weight_count, shared.c.worth, shared.c.places)
        .join(shared, shared.c.architecture_id == architecture.id)
        .where(enough)
    )


@lru_cache(_KEPT)
def used_query(dialect: str, wanted: UseQuery) -> Query:
    """Return the query for which of the architectures `ids` are in use, with the documents of those not in `known`.

    For each the first version in use ends the look.
    """
    use = _in_use(select(ArchitectureUseRow.version_id), wanted)
    any_use = use.where(ArchitectureUseRow.architecture_id == ArchitectureRow.id).correlate(ArchitectureRow)
    document = case((~_is_among(dialect, ArchitectureRow.id, "known"), ArchitectureRow.document))
    among = _is_among(dialect, ArchitectureRow.id, "ids")
    return select(ArchitectureRow.id, document).where(among, any_use.exists())


@lru_cache(_KEPT)
def uses_query(dialect: str, wanted: UseQuery) -> Query:
    """Return the query for how many versions of each model have each of the architectures `ids`, and the newest."""
    columns = (ArchitectureUseRow.architecture_id, ModelRow.id)
    query = _in_use(select(*columns, func.count(VersionRow.id.distinct()), func.max(VersionRow.id)), wanted)
    return query.where(_is_among(dialect, ArchitectureUseRow.architecture_id, "ids")).group_by(*columns)


@lru_cache
def versions_query(dialect: str) -> Query:
    """Return the query for the uses of the architectures `ids` by the versions `version_ids`, the newest first."""
    return (
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
        .where(_is_among(dialect, ArchitectureUseRow.version_id, "version_ids"))
        .where(_is_among(dialect, ArchitectureUseRow.architecture_id, "ids"))
        .order_by(VersionRow.id.desc(), ArchitectureUseRow.position)
    )


def _is_among(dialect: str, column: InstrumentedAttribute[int], parameter: str) -> ColumnElement[bool]:
    """Return whether a column has one of a parameter's values; PostgreSQL then has one plan for any number of them."""
    if dialect == "postgresql":
        return column == any_(bindparam(parameter, type_=ARRAY(BigInteger)))
    return column.in_(bindparam(parameter, expanding=True))


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
