"""Resolving a live version by one question: which version it is, and what tells that nothing changed.

What is told of a version follows from its content, which never changes, from its annotations, which have a revision,
and from its aliases. So what was told before is told again, as long as these are the same.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Boolean, bindparam, or_, select
from sqlalchemy.orm import aliased

from registry.digest import is_digest
from registry.schema import VersionInfo
from storage.kept import Kept
from storage.metadata.asking import Question, Rows
from storage.metadata.tables import AliasRow, AnnotationsRow, ModelRow, ObjectRow, VersionRow

NUMBER = re.compile(r"v?([0-9]{1,18})")
TOLD_BYTES = 16 << 20
"""Of JSON: what a process keeps of versions that it was asked for lately."""

Asked: TypeAlias = tuple[Question, dict[str, Any]]

_DAMAGED = select(ObjectRow.id).where(ObjectRow.damaged_at.is_not(None)).limit(1).scalar_subquery()
_POINTING = aliased(AliasRow)
_FOUND = (
    select(VersionRow.id, VersionRow.created_at, AnnotationsRow.revision, _DAMAGED, _POINTING.name)
    .select_from(ModelRow)
    .join(VersionRow, VersionRow.model_id == ModelRow.id)
    .join(AnnotationsRow, AnnotationsRow.version_id == VersionRow.id)
    .outerjoin(_POINTING, (_POINTING.model_id == VersionRow.model_id) & (_POINTING.number == VersionRow.number))
    .where(ModelRow.team == bindparam("team"), ModelRow.name == bindparam("model"), ModelRow.deleted_at.is_(None))
    .where(or_(bindparam("is_admitted", type_=Boolean()), ModelRow.visibility == "everyone"))
    .where(VersionRow.deleted_at.is_(None), VersionRow.quarantined_at.is_(None))
    .order_by(_POINTING.name)
)
_BY_NUMBER = Question(_FOUND.where(VersionRow.number == bindparam("number")))
_LATEST = Question(_FOUND.where(VersionRow.number == ModelRow.latest))
_BY_ALIAS = Question(
    _FOUND.join(AliasRow, (AliasRow.model_id == VersionRow.model_id) & (AliasRow.number == VersionRow.number)).where(
        AliasRow.name == bindparam("alias")
    )
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A live version as it is now: as long as this is equal, what is told of it is too."""

    version_id: int
    created_at: datetime
    revision: int
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of a version: as an object, and as the JSON of the answer."""

    info: VersionInfo
    document: bytes


class Resolved:
    """What was told of versions lately."""

    def __init__(self) -> None:
        self._told: Kept[Moment, Told] = Kept(TOLD_BYTES, lambda told: len(told.document))

    def find(self, moment: Moment) -> Told | None:
        """Return what is told of a version, where that is known."""
        return self._told.find(moment)

    def keep(self, moment: Moment, info: VersionInfo) -> None:
        """Keep what is told of a version, read in the same transaction as the moment."""
        self._told.keep(moment, Told(info, info.model_dump_json().encode()))


def question_of(team: str, model: str, selector: str, *, is_admitted: bool) -> Asked | None:
    """Return what to ask for the moment of a live version; None where the words mean something else than that.

    Args:
        team: of the model.
        model: its name.
        selector: a number, an alias or `latest`.
        is_admitted: whether the model is shown whoever may read it; else it must be one that everyone may.
    """
    values: dict[str, Any] = {"team": team, "model": model, "is_admitted": is_admitted}
    if number := NUMBER.fullmatch(selector):
        return _BY_NUMBER, values | {"number": int(number[1])}
    if selector == "latest":
        return _LATEST, values
    return None if is_digest(selector) else (_BY_ALIAS, values | {"alias": selector})


def moment_of(rows: Rows) -> Moment | None:
    """Return the moment that the answer tells; None where there is no such version, or any object is damaged."""
    if not rows:
        return None
    version_id, created_at, revision, damaged, _ = rows[0]
    if damaged is not None:
        return None
    return Moment(version_id, created_at, revision, tuple(row[4] for row in rows if row[4] is not None))
