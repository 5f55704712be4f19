"""`weighbridge audit`: who did what, where from, when."""

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import click

from registry.cli.moments import begins, ends
from registry.cli.options import service_options
from registry.cli.tables import print_json, print_table
from registry.client.client import Client
from registry.client.governing import audit_query
from registry.errors import PermissionDeniedError
from registry.teams import AuditEntry

_LIMIT = 100


@click.command()
@click.option("--team", metavar="TEAM", help="What happened in this team, for its admins [default: everywhere].")
@click.option("--actor", metavar="USER", help="What this user did.")
@click.option("--action", metavar="WHAT", help="Things of this kind only, such as version.push.")
@click.option("--model", metavar="[TEAM/]MODEL", help="What was done to this model.")
@click.option("--since", metavar="DAY", callback=begins, help="From this day (2026-10-01, in UTC) or moment on.")
@click.option("--until", metavar="DAY", callback=ends, help="Up to this day, or before this moment.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help=f"At most so many [default: {_LIMIT}].")
@click.option("--export", is_flag=True, help="All of it, as lines of JSON.")
@service_options
def audit(
    *,
    client: Client,
    team: str | None,
    actor: str | None,
    action: str | None,
    model: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    export: bool,
    as_json: bool,
) -> None:
    """Show who did what, the newest first: admins in their team, administrators everywhere."""
    team, model = _split(team, model)
    if export:
        if limit is not None:
            raise click.UsageError("--export gives all of it: narrow it with --since and the like, not with --limit.")
        query = audit_query(team=team, actor=actor, action=action, model=model, since=since, until=until)
        with _told_of_teams(team):
            for piece in client.export_audit(query):
                click.echo(piece, nl=False)
        return
    with _told_of_teams(team):
        found = client.audit(
            team=team, actor=actor, action=action, model=model, since=since, until=until, limit=limit or _LIMIT
        )
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("Nothing of the kind is in the audit.", err=True)
        return
    print_table(
        ("WHEN (UTC)", "WHO", "TOKEN", "FROM", "ACTION", "WHAT", "DETAIL"),
        [_row(each) for each in found],
    )
    if len(found) == (limit or _LIMIT):
        click.echo("There may be more: --limit, --since, or --export for all of it.", err=True)


@contextmanager
def _told_of_teams(team: str | None) -> Generator[None]:
    """Say to whoever may not see everything that there is the audit of their team."""
    try:
        yield
    except PermissionDeniedError as error:
        if team is not None:
            raise
        told = PermissionDeniedError(
            f"{error.detail} Of a team that you are admin of: `weighbridge audit --team TEAM`."
        )
        told.request_id = error.request_id
        raise told from error


def _split(team: str | None, model: str | None) -> tuple[str | None, str | None]:
    """Take `vision/resnet50` for a model, as everywhere else."""
    if model is None or "/" not in model:
        return team, model
    of_team, _, name = model.partition("/")
    if team not in {None, of_team}:
        raise click.UsageError(f"--model {model} is not of --team {team}.")
    return of_team, name


def _row(entry: AuditEntry) -> tuple[str, ...]:
    what = "/".join(filter(None, (entry.team, entry.model)))
    return (
        f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        entry.actor,
        entry.token or "-",
        entry.address or "-",
        entry.action,
        (what if entry.version is None else f"{what}:{entry.version}") or "-",
        "  ".join(_say(entry.detail)),
    )


def _say(detail: Mapping[str, Any]) -> Iterator[str]:
    """Yield `name=value` for what a detail tells; of changes each."""
    for name, value in detail.items():
        if name == "changes" and isinstance(value, dict):
            yield from (f"{each}={_plain(changed)}" for each, changed in cast("dict[str, Any]", value).items())
        elif value not in (None, "", [], {}):
            yield f"{name}={_plain(value)}"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
