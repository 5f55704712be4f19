"""How many bytes the versions of a team and of its models have, and how many are stored for them."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, case, exists, func, select
from sqlalchemy.orm import Session

from registry.schema import Page
from registry.usage import ModelStorage, TeamStorage
from storage.metadata.pages import Order, read_page
from storage.metadata.session import Transactional, reads
from storage.metadata.tables import ArtifactRow, ExtentRow, ModelRow, ObjectRow, VersionRow
from storage.metadata.teams import get_team

_BY_NAME = Order("name", (ModelRow.name,), (str,))


class Usage(Transactional):
    """The part of the catalog that knows what is stored for whom."""

    @reads
    def measure_team(self, session: Session, team: str) -> TeamStorage:
        """Return what a team takes. Its objects are summed up, found by index; its versions are counted already.

        Raises:
            TeamNotFoundError: there is no such team.
        """
        row = get_team(session, team)
        sizes = select(func.count(), func.coalesce(func.sum(ObjectRow.size_bytes), 0)).where(ObjectRow.team == team)
        count, stored_bytes = session.execute(sizes).one()
        return TeamStorage(
            team=team,
            version_count=row.version_count,
            logical_bytes=row.stored_bytes,
            stored_bytes=int(stored_bytes),
            object_count=count,
        )

    @reads
    def measure_models(
        self, session: Session, team: str, cursor: str | None, limit: int, *, include_quarantined: bool
    ) -> Page[ModelStorage]:
        """Return a page of a team's models with what each takes, by name; deleted ones while they take something.

        Costs two grouped queries a page, over the versions of the models on it, their extents, and the other extents of
        the same objects: some ten microseconds an extent.

        Raises:
            TeamNotFoundError: there is no such team.
            InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
        """
        get_team(session, team)
        shown = [VersionRow.purged_at.is_(None)]
        shown += [] if include_quarantined else [VersionRow.quarantined_at.is_(None)]
        query = select(ModelRow).where(
            ModelRow.team == team, exists().where(VersionRow.model_id == ModelRow.id, *shown).correlate(ModelRow)
        )
        rows, following = read_page(session, query, _BY_NAME, cursor, limit)
        ids = [row.id for (row,) in rows]
        counted = select(VersionRow.model_id, func.count(), func.sum(VersionRow.size_bytes))
        counted = counted.where(VersionRow.model_id.in_(ids), *shown).group_by(VersionRow.model_id)
        logical = {model_id: (count, int(size)) for model_id, count, size in session.execute(counted)}
        stored = _stored(session, ids, shown)
        items = [
            ModelStorage(
                team=team,
                model=row.name,
                version_count=logical[row.id][0],
                logical_bytes=logical[row.id][1],
                stored_bytes=stored.get(row.id, (0, 0))[0],
                own_bytes=stored.get(row.id, (0, 0))[1],
                is_deleted=row.deleted_at is not None,
            )
            for (row,) in rows
        ]
        return Page[ModelStorage](items=items, cursor=following)


def _stored(
    session: Session, model_ids: Sequence[int], shown: Sequence[ColumnElement[bool]]
) -> dict[int, tuple[int, int]]:
    """Return, by model, the bytes of objects that it brought, and of those in which no other model lies."""
    held = (
        select(VersionRow.model_id, ExtentRow.object_id, func.count().label("count"))
        .join(ArtifactRow, ArtifactRow.version_id == VersionRow.id)
        .join(ExtentRow, ExtentRow.artifact_id == ArtifactRow.id)
        .where(VersionRow.model_id.in_(model_ids), *shown)
        .group_by(VersionRow.model_id, ExtentRow.object_id)
        .subquery("held")
    )
    every = (
        select(ExtentRow.object_id, func.count().label("count"), func.min(ExtentRow.artifact_id).label("first"))
        .where(ExtentRow.object_id.in_(select(held.c.object_id)))
        .group_by(ExtentRow.object_id)
        .subquery("every")
    )
    size = ObjectRow.size_bytes
    query = (
        select(
            held.c.model_id,
            func.sum(case((VersionRow.model_id == held.c.model_id, size), else_=0)),
            func.sum(case((every.c.count == held.c.count, size), else_=0)),
        )
        .join(ObjectRow, ObjectRow.id == held.c.object_id)
        .join(every, every.c.object_id == held.c.object_id)
        .join(ArtifactRow, ArtifactRow.id == every.c.first)
        .join(VersionRow, VersionRow.id == ArtifactRow.version_id)
        .group_by(held.c.model_id)
    )
    return {model_id: (int(stored), int(own)) for model_id, stored, own in session.execute(query)}
