"""Moments on the command line: a day, or a day and a time."""

from datetime import UTC, date, datetime, time, timedelta

import click


def begins(ctx: click.Context, param: click.Parameter, text: str | None) -> datetime | None:
    """Return a moment, for options: a day means its beginning, in UTC."""
    del ctx, param
    return None if text is None else _moment(text, days_later=0)


def ends(ctx: click.Context, param: click.Parameter, text: str | None) -> datetime | None:
    """Return a moment, for options: a day means its end, in UTC."""
    del ctx, param
    return None if text is None else _moment(text, days_later=1)


def _moment(text: str, days_later: int) -> datetime:
    """Return `2026-10-01`, some days later, or `2026-10-01T08:00`; in UTC unless it says otherwise."""
    try:
        if len(text) == len("2026-10-01"):
            return datetime.combine(date.fromisoformat(text) + timedelta(days=days_later), time(), UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is no day (2026-10-01) and no moment (2026-10-01T08:00).") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
