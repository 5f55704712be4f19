"""Keyset pages: the opaque cursor, and the conditions and order that continue after it."""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import UnionType
from typing import Any, TypeAlias, TypeVarTuple

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry.errors import InvalidCursorError, InvalidRequestError

MAX_PAGE = 1000
Columns = TypeVarTuple("Columns")
Kind: TypeAlias = type[Any] | UnionType
KeyValue: TypeAlias = str | int | float | datetime | None


@dataclass(frozen=True, slots=True)
class Order:
    """How a list is sorted.

    Attributes:
        sort: as its cursors call it; a leading minus is descending.
        columns: that together name a row exactly once; all go in one direction.
        kinds: of their values.
    """

    sort: str
    columns: tuple[InstrumentedAttribute[Any], ...]
    kinds: tuple[Kind, ...]


def read_page(
    session: Session, query: Select[*Columns], order: Order, cursor: str | None, limit: int
) -> tuple[list[tuple[*Columns]], str | None]:
    """Return the rows of a page, and the cursor that continues after them, None at the end.

    Raises:
        InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
    """
    check_limit(limit)
    after = None if cursor is None else decode_cursor(cursor, order.sort, order.kinds)
    keyed: Select[Any] = query.add_columns(*order.columns)
    chosen = seek(keyed, order.columns, descending=order.sort.startswith("-"), after=after, limit=limit)
    found: Sequence[Sequence[Any]] = session.execute(chosen).all()
    width = len(order.columns)
    following = encode_cursor(order.sort, found[limit - 1][-width:]) if len(found) > limit else None
    rows: list[Any] = [tuple(row[:-width]) for row in found[:limit]]
    return rows, following


def encode_cursor(sort: str, key: Sequence[KeyValue]) -> str:
    """Return an opaque cursor: the sort, and the key of the last item."""
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in key]
    return base64.urlsafe_b64encode(json.dumps([sort, plain]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, sort: str, kinds: Sequence[Kind]) -> list[Any]:
    """Return the key in a cursor, each value of its kind.

    Raises:
        InvalidCursorError: it is none of ours, or belongs to another sort.
    """
    try:
        found_sort, key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if found_sort != sort:
            raise InvalidCursorError(f"The cursor belongs to the sort {found_sort!r}. Begin again without a cursor.")
        return [_restore(value, kind) for value, kind in zip(key, kinds, strict=True)]
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise InvalidCursorError("This is no cursor of this service. Begin again without one.") from error


def _restore(value: object, kind: Kind) -> Any:
    if kind is datetime and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError(value)
        return moment
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(value)
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError(value)
    return value


def check_limit(limit: int) -> int:
    """Return how many items a page shall have.

    Raises:
        InvalidRequestError: less than one, or more than `MAX_PAGE`.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidRequestError(f"A page has 1 to {MAX_PAGE} items, not {limit}.")
    return limit


def seek(
    query: Select[*Columns],
    columns: Sequence[InstrumentedAttribute[Any]],
    *,
    descending: bool,
    after: Sequence[Any] | None,
    limit: int,
) -> Select[*Columns]:
    """Return the query in the order of `columns`, continuing after a key, with one row more than `limit`.

    All columns go in one direction, and together they name a row exactly once. The row too many says that more follow.
    """
    if after is not None:
        key = tuple_(*columns)
        query = query.where(key < tuple(after) if descending else key > tuple(after))
    order = [column.desc() if descending else column.asc() for column in columns]
    return query.order_by(*order).limit(limit + 1)
