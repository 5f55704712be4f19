"""Models in the catalog: create, change, delete, restore, list."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, exists, insert, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry.errors import InvalidMetadataError, InvalidRequestError, ModelExistsError, NotDeletedError
from registry.schema import MAX_TAGS, ModelCreate, ModelInfo, ModelUpdate, Page
from registry.teams import Visibility
from storage.metadata.aliases import point_alias
from storage.metadata.audit import record
from storage.metadata.due import note_due, note_versions_due
from storage.metadata.lookup import find_model, get_model, lock_model, visible
from storage.metadata.pages import Order, read_page
from storage.metadata.record_tables import OF_THE_MODEL
from storage.metadata.records import Actor, ModelQuery, Sight
from storage.metadata.session import Transactional, insert_for, reads, utc_now, writes
from storage.metadata.shapes import model_infos
from storage.metadata.tables import INDEXED_CHARACTERS, AliasRow, ModelRow, ModelTagRow, VersionRow
from storage.metadata.teams import ensure_team

_SORTS: dict[str, tuple[tuple[InstrumentedAttribute[Any], ...], tuple[type[Any], ...]]] = {
    "name": ((ModelRow.team, ModelRow.name), (str, str)),
    "updated": ((ModelRow.updated_at, ModelRow.id), (datetime, int)),
    "created": ((ModelRow.created_at, ModelRow.id), (datetime, int)),
}


class Models(Transactional):
    """The part of the catalog that knows models."""

    @writes
    def create_model(self, session: Session, team: str, name: str, create: ModelCreate, by: Actor) -> ModelInfo:
        """Create a model, or begin a deleted one anew: its numbers continue, its old versions are deleted ones.

        Raises:
            ModelExistsError: a live model has that name.
        """
        inserted = ensure_model(session, team, name, by)
        model = lock_model(session, team, name, deleted=True)
        if model.deleted_at is not None:
            revive_model(session, model, by)
        elif not inserted:
            raise ModelExistsError(f"{team}/{name} exists already; push to it, or choose another name.")
        model.description = create.description
        replace_tags(session, model, create.tags)
        note_due(session, model, OF_THE_MODEL)
        record(session, by, "model.create", team=team, model=name)
        return model_infos(session, [model])[0]

    @reads
    def get_model(self, session: Session, team: str, name: str) -> ModelInfo:
        """Return a live model.

        Raises:
            ModelNotFoundError: there is none; the detail names what was probably meant.
        """
        return model_infos(session, [get_model(session, team, name)])[0]

    @reads
    def find_visibility(self, session: Session, team: str, name: str) -> Visibility | None:
        """Return who may read a live model; None where there is none."""
        model = find_model(session, team, name)
        return None if model is None or model.deleted_at is not None else model.visibility

    @reads
    def is_deleted(self, session: Session, team: str, name: str) -> bool:
        """Return whether a model is deleted; False also where there never was one."""
        model = find_model(session, team, name)
        return model is not None and model.deleted_at is not None

    @writes
    def update_model(self, session: Session, team: str, name: str, update: ModelUpdate, by: Actor) -> ModelInfo:
        """Change the description and tags of a model: what is left out stays, a tag set to null goes.

        Raises:
            ModelNotFoundError: there is no such live model.
            InvalidMetadataError: it would have too many tags.
        """
        model = lock_model(session, team, name)
        [before] = model_infos(session, [model])
        tags = {key: value for key, value in {**before.tags, **update.tags}.items() if value is not None}
        if len(tags) > MAX_TAGS:
            raise InvalidMetadataError(f"A model has at most {MAX_TAGS} tags; this would make {len(tags)}.")
        if update.description is not None:
            model.description = update.description
        if update.visibility is not None:
            model.visibility = update.visibility
        replace_tags(session, model, tags)
        model.updated_at = utc_now()
        note_due(session, model, OF_THE_MODEL)
        changes = update.model_dump(exclude_unset=True)
        record(session, by, "model.update", team=team, model=name, changes=changes)
        return model_infos(session, [model])[0]

    @writes
    def delete_model(self, session: Session, team: str, name: str, by: Actor) -> ModelInfo:
        """Hide a model with all its versions and aliases; `restore_model` brings everything back.

        Raises:
            ModelNotFoundError: there is no such live model.
        """
        model = lock_model(session, team, name)
        model.deleted_at = model.updated_at = utc_now()
        model.deleted_by = by.name
        note_due(session, model, OF_THE_MODEL)
        record(session, by, "model.delete", team=team, model=name)
        return model_infos(session, [model])[0]

    @writes
    def restore_model(self, session: Session, team: str, name: str, by: Actor) -> ModelInfo:
        """Show a deleted model again, as it was.

        Raises:
            ModelNotFoundError: there never was one.
            NotDeletedError: it is live.
        """
        model = lock_model(session, team, name, deleted=True)
        if model.deleted_at is None:
            raise NotDeletedError(f"{team}/{name} is not deleted.")
        model.deleted_at = model.deleted_by = None
        model.updated_at = utc_now()
        note_due(session, model, OF_THE_MODEL)
        record(session, by, "model.restore", team=team, model=name)
        return model_infos(session, [model])[0]

    @reads
    def list_models(
        self, session: Session, sight: Sight, query: ModelQuery, cursor: str | None = None, limit: int = 100
    ) -> Page[ModelInfo]:
        """Return a page of the live models that somebody may read.

        Raises:
            InvalidRequestError: no such sort, or a bad limit.
            InvalidCursorError: the cursor is not of this list.
        """
        order = _get_order(query.sort)
        rows, following = read_page(session, _filter(query).where(*visible(sight)), order, cursor, limit)
        return Page[ModelInfo](items=model_infos(session, [row for (row,) in rows]), cursor=following)


def ensure_model(session: Session, team: str, name: str, by: Actor) -> bool:
    """Insert the row of a model unless there is one, live or deleted; return whether it was inserted."""
    ensure_team(session, team, by)
    now = utc_now()
    statement = insert_for(session, ModelRow).values(
        team=team,
        name=name,
        description="",
        search_text=_search_text(team, name, "", {}),
        version_counter=0,
        version_count=0,
        created_at=now,
        created_by=by.name,
        updated_at=now,
    )
    return session.scalar(statement.on_conflict_do_nothing().returning(ModelRow.id)) is not None


def revive_model(session: Session, model: ModelRow, by: Actor) -> None:
    """Begin a deleted model anew: all its versions are deleted ones and its aliases are gone; the numbers continue.

    The caller holds the lock of the row.
    """
    now = utc_now()
    old = VersionRow.model_id == model.id, VersionRow.deleted_at.is_(None)
    session.execute(update(VersionRow).where(*old).values(deleted_at=now, deleted_by=model.deleted_by))
    note_versions_due(session, model)
    note_due(session, model, OF_THE_MODEL)
    aliases = select(AliasRow).where(AliasRow.model_id == model.id, AliasRow.number.is_not(None))
    for alias in session.scalars(aliases).all():
        point_alias(session, model, alias.name, None, by=by, reason="the model was deleted and created again")
    record(session, by, "model.revive", team=model.team, model=model.name)
    model.deleted_at = model.deleted_by = None
    model.created_at = model.updated_at = now
    model.created_by = by.name
    model.visibility = "team"
    model.description = ""
    replace_tags(session, model, {})
    model.version_count = 0
    model.latest = None


def _get_order(sort: str) -> Order:
    found = _SORTS.get(sort.removeprefix("-"))
    if found is None:
        raise InvalidRequestError(f"Models cannot be sorted by {sort!r}. Use {', '.join(_SORTS)}, or one with a `-`.")
    return Order(sort, *found)


def _filter(query: ModelQuery) -> Select[ModelRow]:
    chosen = select(ModelRow).where(ModelRow.deleted_at.is_(None))
    if query.team is not None:
        chosen = chosen.where(ModelRow.team == query.team)
    for word in (query.search or "").casefold().split():
        chosen = chosen.where(ModelRow.search_text.contains(word, autoescape=True))
    for key, value in query.tags.items():
        chosen = chosen.where(
            exists().where(
                ModelTagRow.model_id == ModelRow.id,
                ModelTagRow.key == key,
                ModelTagRow.value_start == value[:INDEXED_CHARACTERS],
                ModelTagRow.value == value,
            )
        )
    if query.kind is not None:
        latest = VersionRow.model_id == ModelRow.id, VersionRow.number == ModelRow.latest
        chosen = chosen.where(exists().where(*latest, VersionRow.kind == query.kind))
    return chosen


def replace_tags(session: Session, model: ModelRow, tags: Mapping[str, str]) -> None:
    """Make these the tags of a model, and bring up to date what searching looks in."""
    session.execute(delete(ModelTagRow).where(ModelTagRow.model_id == model.id))
    rows: Sequence[dict[str, Any]] = [
        {"model_id": model.id, "key": key, "value": value, "value_start": value[:INDEXED_CHARACTERS]}
        for key, value in tags.items()
    ]
    if rows:
        session.execute(insert(ModelTagRow), rows)
    model.search_text = _search_text(model.team, model.name, model.description, tags)


def _search_text(team: str, name: str, description: str, tags: Mapping[str, str]) -> str:
    """Return what searching looks in: folded here, because SQLite folds ASCII only."""
    words = [f"{team}/{name}", description, *(f"{key}={value}" for key, value in tags.items())]
    return "\n".join(words).casefold()
