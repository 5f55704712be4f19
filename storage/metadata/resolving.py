"""Resolving a live version by one statement, made once: which version it is, and what tells that nothing changed.

What is told of a version follows from its content, which never changes, from its annotations, which have a revision,
and from its aliases. So what was told before is told again, with the aliases of now.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Executable, Row, bindparam, select
from sqlalchemy.orm import Session

from registry.digest import is_digest
from registry.schema import VersionInfo
from storage.kept import Kept
from storage.metadata.tables import AliasRow, AnnotationsRow, ModelRow, ObjectRow, VersionRow

NUMBER = re.compile(r"v?([0-9]{1,18})")
TOLD_BYTES = 16 << 20
"""Of JSON: what a process keeps of versions that it was asked for lately."""

_DAMAGED = select(ObjectRow.id).where(ObjectRow.damaged_at.is_not(None)).limit(1).scalar_subquery()
_FOUND = (
    select(
        VersionRow.model_id,
        VersionRow.id,
        VersionRow.number,
        VersionRow.created_at,
        AnnotationsRow.revision,
        _DAMAGED.label("damaged"),
    )
    .select_from(ModelRow)
    .join(VersionRow, VersionRow.model_id == ModelRow.id)
    .join(AnnotationsRow, AnnotationsRow.version_id == VersionRow.id)
    .where(ModelRow.team == bindparam("team"), ModelRow.name == bindparam("model"), ModelRow.deleted_at.is_(None))
    .where(VersionRow.deleted_at.is_(None), VersionRow.quarantined_at.is_(None))
)
_BY_NUMBER = _FOUND.where(VersionRow.number == bindparam("number"))
_LATEST = _FOUND.where(VersionRow.number == ModelRow.latest)
_BY_ALIAS = _FOUND.join(
    AliasRow, (AliasRow.model_id == VersionRow.model_id) & (AliasRow.number == VersionRow.number)
).where(AliasRow.name == bindparam("alias"))
_ALIASES = (
    select(AliasRow.name)
    .where(AliasRow.model_id == bindparam("model_id"), AliasRow.number == bindparam("number"))
    .order_by(AliasRow.name)
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A live version as it is now: as long as this is equal, what is told of it is too, but for its aliases."""

    version_id: int
    created_at: datetime
    revision: int


class Resolved:
    """What was told of versions lately."""

    def __init__(self) -> None:
        self._told: Kept[Moment, VersionInfo] = Kept(TOLD_BYTES, lambda info: len(info.model_dump_json()))

    def find(self, session: Session, team: str, model: str, selector: str) -> tuple[Moment | None, VersionInfo | None]:
        """Return the moment of a live version, and what is told of it where that is known.

        Both are None where the words mean no live version, or something else than number, alias or `latest`; nothing is
        known while any object is damaged.
        """
        row = _find(session, {"team": team, "model": model}, selector)
        if row is None or row.damaged is not None:
            return None, None
        moment = Moment(row.id, row.created_at, row.revision)
        told = self._told.find(moment)
        if told is None:
            return moment, None
        named = {"model_id": row.model_id, "number": row.number}
        aliases = list(session.connection().scalars(_ALIASES, named))
        return moment, told if told.aliases == aliases else told.model_copy(update={"aliases": aliases})

    def keep(self, moment: Moment, told: VersionInfo) -> None:
        """Keep what is told of a version, read in the same transaction as the moment."""
        self._told.keep(moment, told)


def _find(session: Session, named: Mapping[str, Any], selector: str) -> Row[Any] | None:
    number = NUMBER.fullmatch(selector)
    if number:
        return _one(session, _BY_NUMBER, {**named, "number": int(number[1])})
    if selector == "latest":
        return _one(session, _LATEST, named)
    return None if is_digest(selector) else _one(session, _BY_ALIAS, {**named, "alias": selector})


def _one(session: Session, statement: Executable, named: Mapping[str, Any]) -> Row[Any] | None:
    """Return what a statement finds; past the session, which would look for what it knows already."""
    return session.connection().execute(statement, named).one_or_none()
