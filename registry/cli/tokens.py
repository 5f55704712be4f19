"""`weighbridge token`: making, listing and ending tokens."""

from datetime import UTC, datetime, timedelta

import click

from registry.cli.options import service_options
from registry.cli.tables import day, in_order, print_json, print_table
from registry.client.client import Client
from registry.errors import InvalidRequestError
from registry.teams import Scope, TokenInfo

EVERY_SCOPE = "all"
_DAYS = 90


@click.group()
def token() -> None:
    """Make, list and revoke tokens.

    Roles say what a person may do; a token's scopes say what of that it may be used for.
    """


@token.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([*map(str, Scope), EVERY_SCOPE]),
    default=[str(Scope.READ)],
    show_default=True,
    help="What it may be used for; may repeat.",
)
@click.option(
    "--target", "targets", metavar="TEAM[/MODEL]", multiple=True, help="Good for this only; may repeat [default: all]."
)
@click.option("--days", metavar="N", type=click.IntRange(1, 3650), help=f"How long it lives [default: {_DAYS}].")
@click.option("--never", is_flag=True, help="It does not expire, unless the token that makes it does.")
@click.option("--user", metavar="USER", help="Whose it is, for administrators [default: yours].")
@service_options
def create_token(
    *,
    client: Client,
    name: str,
    scopes: tuple[str, ...],
    targets: tuple[str, ...],
    days: int | None,
    never: bool,
    user: str | None,
    as_json: bool,
) -> None:
    """Make a token; NAME says what it is for.

    Its secret is printed this once, alone on standard output, so that it can go straight to where it is needed:
    `weighbridge token create laptop | weighbridge login URL`.
    """
    if days is not None and never:
        raise click.UsageError("Say --days or --never.")
    wanted = None if never else days or _DAYS
    given = tuple(Scope) if EVERY_SCOPE in scopes else scopes
    made = client.create_token(name, scopes=given, targets=targets, days=wanted, user=user)
    if as_json:
        print_json(made)
        return
    ends = f"until {day(made.expires_at)}" if made.expires_at else "without end"
    where = ", ".join(made.targets) or f"all that {made.user} may"
    click.echo(
        f"{made.prefix}: {', '.join(in_order(made.scopes))} in {where}, {ends}. Its secret is told this once.", err=True
    )
    if _is_cut(made, wanted):
        click.echo("note: it ends when the token that made it does.", err=True)
    click.echo(made.token)


def _is_cut(made: TokenInfo, days: int | None) -> bool:
    """Return whether the service let it end earlier than was asked for."""
    if made.expires_at is None:
        return False
    return days is None or made.expires_at < made.created_at + timedelta(days=days) - timedelta(hours=1)


@token.command("list")
@click.option("--user", metavar="USER", help="Of this user, for administrators.")
@click.option("--all", "everybody", is_flag=True, help="Of all users, for administrators.")
@service_options
def list_tokens(*, client: Client, user: str | None, everybody: bool, as_json: bool) -> None:
    """List your tokens, the newest first, without their secrets."""
    if user and everybody:
        raise InvalidRequestError("Say --user or --all.")
    found = client.tokens(user="*" if everybody else user)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each.prefix,
            each.name,
            each.user,
            ",".join(in_order(each.scopes)),
            ",".join(each.targets) or "all",
            day(each.created_at),
            _state(each),
            day(each.last_used_at, "never"),
        )
        for each in found
    ]
    print_table(("TOKEN", "NAME", "USER", "SCOPES", "GOOD FOR", "MADE", "ENDS", "USED"), rows)


def _state(token: TokenInfo) -> str:
    if token.revoked_at is not None:
        return f"revoked {day(token.revoked_at)}"
    if token.expires_at is not None and token.expires_at <= datetime.now(UTC):
        return f"expired {day(token.expires_at)}"
    return day(token.expires_at, "never")


@token.command("revoke")
@click.argument("prefix", metavar="TOKEN")
@service_options
def revoke_token(*, client: Client, prefix: str, as_json: bool) -> None:
    """End a token at once.

    TOKEN is how it begins (`wb_…`), as `token list` shows it: yours, or anybody's for administrators.
    """
    ended = client.revoke_token(prefix)
    if as_json:
        print_json(ended)
        return
    click.echo(f"Revoked {ended.prefix} ({ended.name}, of {ended.user}).", err=True)
