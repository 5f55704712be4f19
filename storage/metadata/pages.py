"""Keyset pages: the opaque cursor, and the conditions and order that continue after it."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from types import UnionType
from typing import Any, TypeAlias, TypeVarTuple

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from registry.errors import InvalidCursorError, InvalidRequestError

MAX_PAGE = 1000
Columns = TypeVarTuple("Columns")
Kind: TypeAlias = type[Any] | UnionType
KeyValue: TypeAlias = str | int | float | datetime | None


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
