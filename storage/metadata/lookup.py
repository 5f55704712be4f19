"""Find the rows that a caller's words mean, or say what is there instead."""

import difflib
from collections.abc import Iterable

from sqlalchemy import ColumnElement, Select, select, tuple_
from sqlalchemy.orm import Session

from registry.digest import is_digest
from registry.errors import AliasNotFoundError, ModelNotFoundError, VersionNotFoundError
from storage.metadata.records import Sight
from storage.metadata.resolving import NUMBER
from storage.metadata.tables import AliasRow, AnnotationsRow, ArtifactRow, ModelRow, VersionRow

MAX_SUGGESTIONS = 20
_MAX_NAMES = 1000


def find_model(session: Session, team: str, name: str) -> ModelRow | None:
    """Return the row of a model, live or deleted."""
    return session.scalars(select(ModelRow).where(ModelRow.team == team, ModelRow.name == name)).one_or_none()


def visible(sight: Sight) -> list[ColumnElement[bool]]:
    """Return the conditions of the models that somebody may read."""
    conditions: list[ColumnElement[bool]] = []
    if not sight.everything:
        conditions.append(ModelRow.team.in_(sight.teams) | (ModelRow.visibility == "everyone"))
    if sight.targets:
        models = [tuple(each.split("/", 1)) for each in sight.targets if "/" in each]
        teams = [each for each in sight.targets if "/" not in each]
        conditions.append(ModelRow.team.in_(teams) | tuple_(ModelRow.team, ModelRow.name).in_(models))
    return conditions


def get_model(session: Session, team: str, name: str) -> ModelRow:
    """Return the row of a live model.

    Raises:
        ModelNotFoundError: there is none; the detail names what was probably meant.
    """
    model = find_model(session, team, name)
    return _live(session, model, team, name)


def lock_model(session: Session, team: str, name: str, *, deleted: bool = False) -> ModelRow:
    """Return the row of a model that nobody else can change before this transaction ends.

    Args:
        session: of a write transaction.
        team: of the model.
        name: of the model.
        deleted: take a deleted one too.

    Raises:
        ModelNotFoundError: there is none.
    """
    query = select(ModelRow).where(ModelRow.team == team, ModelRow.name == name).with_for_update()
    model = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if model is not None and deleted:
        return model
    return _live(session, model, team, name)


def _live(session: Session, model: ModelRow | None, team: str, name: str) -> ModelRow:
    if model is not None and model.deleted_at is None:
        return model
    named = ModelRow.team == team, ModelRow.deleted_at.is_(None)
    names = session.scalars(select(ModelRow.name).where(*named).order_by(ModelRow.name).limit(_MAX_NAMES)).all()
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        hint = f"Did you mean {_join(f'{team}/{each}' for each in close)}?"
    elif model is not None:
        hint = f"It was deleted by {model.deleted_by}; restore it to see its versions again."
    else:
        hint = "Push to that name to create it, or list the models that are there."
    told = {"deleted": True} if model is not None else {}
    raise ModelNotFoundError(
        f"There is no model {team}/{name}. {hint}", suggestions=[f"{team}/{each}" for each in close], **told
    )


def get_version(
    session: Session,
    model: ModelRow,
    selector: str,
    *,
    include_deleted: bool = False,
    include_quarantined: bool = False,
) -> VersionRow:
    """Return the row of the version that `3`, `v3`, `latest`, an alias or `sha256:…` means.

    Raises:
        VersionNotFoundError: there is none; the detail says what is.
        AliasNotFoundError: the model has no such alias; the detail lists those it has.
    """
    query = select(VersionRow).where(VersionRow.model_id == model.id)
    number = NUMBER.fullmatch(selector)
    if number:
        included = {"include_deleted": include_deleted, "include_quarantined": include_quarantined}
        return get_version_number(session, model, int(number[1]), **included)
    if selector == "latest":
        if model.latest is None:
            raise VersionNotFoundError(f"{_full(model)} has no live version that is not deprecated. Push one.")
        return session.scalars(query.where(VersionRow.number == model.latest)).one()
    if is_digest(selector):
        shown = query if include_quarantined else query.where(VersionRow.quarantined_at.is_(None))
        return _get_by_digest(session, model, shown, selector)
    points = AliasRow.model_id == model.id, AliasRow.name == selector, AliasRow.number == VersionRow.number
    version = session.scalars(query.where(AliasRow.model_id == VersionRow.model_id, *points)).one_or_none()
    if version is None:
        raise alias_not_found(session, model, selector)
    return version


def get_version_number(
    session: Session,
    model: ModelRow,
    number: int,
    *,
    include_deleted: bool = False,
    include_quarantined: bool = False,
) -> VersionRow:
    """Return the row of a version by its number.

    Raises:
        VersionNotFoundError: there is none; the detail says whether it was deleted and which is the latest.
    """
    query = select(VersionRow).where(VersionRow.model_id == model.id, VersionRow.number == number)
    version = session.scalars(
        query if include_quarantined else query.where(VersionRow.quarantined_at.is_(None))
    ).one_or_none()
    if version is not None and (include_deleted or version.deleted_at is None):
        return version
    latest = f"The latest is {model.latest}." if model.latest else "It has no live version."
    if version is None:
        raise VersionNotFoundError(f"{_full(model)} has no version {number}. {latest}", latest=model.latest)
    if version.purged_at is None:
        fate = f"was deleted by {version.deleted_by} and can be restored"
    else:
        fate = f"was purged by {version.purged_by}: {version.purge_reason}"
    raise VersionNotFoundError(f"Version {number} of {_full(model)} {fate}. {latest}", latest=model.latest)


def _get_by_digest(session: Session, model: ModelRow, query: Select[VersionRow], digest: str) -> VersionRow:
    holds = ArtifactRow.version_id == VersionRow.id, ArtifactRow.sha256 == digest, VersionRow.deleted_at.is_(None)
    version = session.scalars(query.where(*holds).order_by(VersionRow.number.desc()).limit(1)).one_or_none()
    if version is None:
        raise VersionNotFoundError(f"No live version of {_full(model)} holds an artifact with the digest {digest}.")
    return version


def alias_not_found(session: Session, model: ModelRow, alias: str) -> AliasNotFoundError:
    """Return the error that says which aliases the model has."""
    live = AliasRow.model_id == model.id, AliasRow.number.is_not(None)
    query = select(AliasRow.name).where(*live).order_by(AliasRow.name).limit(MAX_SUGGESTIONS)
    names = session.scalars(query).all()
    hint = f"It has {_join(names)}." if names else "It has no aliases yet."
    return AliasNotFoundError(f"{_full(model)} has no alias {alias!r}. {hint}", aliases=list(names))


def find_latest(session: Session, model: ModelRow) -> int | None:
    """Return the highest live, undeprecated, unquarantined number of a model, by an index from the top."""
    query = (
        select(VersionRow.number)
        .join(AnnotationsRow, AnnotationsRow.version_id == VersionRow.id)
        .where(VersionRow.model_id == model.id, VersionRow.deleted_at.is_(None))
        .where(VersionRow.quarantined_at.is_(None), AnnotationsRow.deprecated.is_(None))
        .order_by(VersionRow.number.desc())
        .limit(1)
    )
    return session.scalars(query).one_or_none()


def _full(model: ModelRow) -> str:
    return f"{model.team}/{model.name}"


def _join(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
