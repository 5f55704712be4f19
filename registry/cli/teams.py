"""`weighbridge team`: who is in which team, as what, and what a team allows."""

import re
from collections.abc import Sequence
from typing import Any, cast

import click

from registry.cli.options import service_options
from registry.cli.tables import day, print_facts, print_json, print_table
from registry.client.client import Client
from registry.sizes import format_size
from registry.teams import MemberInfo, Role, TeamInfo

NOBODY = "nobody"
UNLIMITED = -1
"""Stands for `none` between an option and its command, where None is for what was not said."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(i?)b?")


def _size(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """Return a size in bytes; `UNLIMITED` for `none`."""
    del ctx, param
    if text is None or text.lower() == "none":
        return text if text is None else UNLIMITED
    found = _SIZE.fullmatch(text.lower())
    if found is None:
        raise click.BadParameter(f"{text!r} is no size: write it like 500GiB, 2TB or a number of bytes, or none.")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " kmgt".index(found[2] or " "))


def _count(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """Return a number; `UNLIMITED` for `none`."""
    del ctx, param
    if text is None or text.lower() == "none":
        return text if text is None else UNLIMITED
    if not text.isdecimal():
        raise click.BadParameter(f"{text!r} is no number, nor none.")
    return int(text)


@click.group()
def team() -> None:
    """Show and change teams, their members and their rules."""


@team.command("list")
@service_options
def list_teams(*, client: Client, as_json: bool) -> None:
    """List your teams; for administrators all of them."""
    found = client.teams()
    if as_json:
        print_json(found)
    elif found:
        print_table(
            ("TEAM", "YOUR ROLE", "PROTECTED", "CODE PUSHED BY", "CODE OPENED BY", "UNSAFE FILES"),
            [(each.name, each.role or "-", *_rules(each).values()) for each in found],
        )
    else:
        click.echo("You are in no team.", err=True)


@team.command("show")
@click.argument("name", metavar="TEAM")
@service_options
def show_team(*, client: Client, name: str, as_json: bool) -> None:
    """Show a team's rules and its members."""
    found, members = client.team(name), client.members(name)
    if as_json:
        print_json({**found.model_dump(mode="json"), "members": [each.model_dump(mode="json") for each in members]})
        return
    _print_team(found, members)


@team.command("create")
@click.argument("name", metavar="TEAM")
@service_options
def create_team(*, client: Client, name: str, as_json: bool) -> None:
    """Make a team (administrators)."""
    made = client.create_team(name)
    if as_json:
        print_json(made)
        return
    click.echo(f"Made {name}. `weighbridge team add {name} USER --role ROLE` lets somebody in.", err=True)


@team.command("set")
@click.argument("name", metavar="TEAM")
@click.option("--protect", metavar="ALIAS", multiple=True, help="Only maintainers may move this alias; may repeat.")
@click.option("--unprotect", metavar="ALIAS", multiple=True, help="Writers may move it, too; may repeat.")
@click.option(
    "--code-pushed-by",
    type=click.Choice([*map(str, Role), NOBODY]),
    help="The least role that pushes files that run code.",
)
@click.option("--code-opened-by", type=click.Choice([*map(str, Role)]), help="The least role that downloads them.")
@click.option("--unsafe", type=click.Choice(["refuse", "quarantine"]), help="What becomes of files that would do harm.")
@service_options
def set_team(
    *,
    client: Client,
    name: str,
    protect: tuple[str, ...],
    unprotect: tuple[str, ...],
    code_pushed_by: str | None,
    code_opened_by: str | None,
    unsafe: str | None,
    as_json: bool,
) -> None:
    """Change a team's rules (its admins).

    What is not named stays as it is.
    """
    changes: dict[str, Any] = {"code_pushed_by": code_pushed_by, "code_opened_by": code_opened_by, "unsafe": unsafe}
    changes = {rule: value for rule, value in changes.items() if value is not None}
    if protect or unprotect:
        kept = set(client.team(name).protected_aliases) - set(unprotect)
        changes["protected_aliases"] = sorted(kept | set(protect))
    if not changes:
        raise click.UsageError("Say what to change: --protect, --unprotect, --code-pushed-by …")
    changed = client.update_team(name, **changes)
    if as_json:
        print_json(changed)
        return
    _print_team(changed, ())


@team.command("quota")
@click.argument("name", metavar="TEAM")
@click.option("--max-bytes", metavar="SIZE", callback=_size, help="Of all its versions, such as 500GiB.")
@click.option("--max-versions", metavar="N", callback=_count, help="Versions that are not purged.")
@click.option("--max-file-bytes", "max_artifact_bytes", metavar="SIZE", callback=_size, help="Of its largest file.")
@service_options
def set_quota(*, client: Client, name: str, as_json: bool, **limits: int | None) -> None:
    """Limit what a team may keep (administrators); `none` is for no limit.

    What is not named stays as it is.
    """
    changes = {limit: None if value == UNLIMITED else value for limit, value in limits.items() if value is not None}
    if not changes:
        raise click.UsageError("Say what to change: --max-bytes, --max-versions, --max-file-bytes.")
    changed = client.update_quota(name, **changes)
    if as_json:
        print_json(changed)
        return
    _print_team(changed, ())


@team.command("add")
@click.argument("name", metavar="TEAM")
@click.argument("user")
@click.option("--role", type=click.Choice([*map(str, Role)]), required=True, help="What they may do there.")
@service_options
def add_member(*, client: Client, name: str, user: str, role: str, as_json: bool) -> None:
    """Give a user a role in a team, whatever they had there before (its admins)."""
    member = client.set_member(name, user, role)
    if as_json:
        print_json(member)
        return
    click.echo(f"{member.user} is {member.role} in {member.team}.", err=True)


@team.command("remove")
@click.argument("name", metavar="TEAM")
@click.argument("user")
@service_options
def remove_member(*, client: Client, name: str, user: str, as_json: bool) -> None:
    """Take a user out of a team, from their next request on (its admins)."""
    client.remove_member(name, user)
    if as_json:
        print_json({"team": name, "removed": user})
        return
    click.echo(f"{user} is no member of {name} any more.", err=True)


def _rules(team: TeamInfo) -> dict[str, str]:
    return {
        "protected": ", ".join(team.protected_aliases) or "-",
        "pushed by": team.code_pushed_by or NOBODY,
        "opened by": team.code_opened_by,
        "unsafe": team.unsafe,
    }


def _limits(team: TeamInfo) -> str:
    told = (
        "" if team.max_bytes is None else format_size(team.max_bytes),
        "" if team.max_versions is None else _versions(team.max_versions),
        "" if team.max_artifact_bytes is None else f"{format_size(team.max_artifact_bytes)} a file",
    )
    return ", ".join(filter(None, told))


def _print_team(team: TeamInfo, members: Sequence[MemberInfo]) -> None:
    rules = _rules(team)
    facts = {
        "team": team.name,
        "your role": team.role or "",
        "protected": rules["protected"],
        "code": f"pushed by {rules['pushed by']}, opened by {rules['opened by']}",
        "unsafe": rules["unsafe"],
        "stored": f"{format_size(team.stored_bytes)} in {_versions(team.version_count)}",
        "at most": _limits(team),
        "made": f"{day(team.created_at)} by {team.created_by}",
    }
    print_facts(facts)
    if members:
        click.echo()
        rows = [(each.user, cast("str", each.role), day(each.added_at), each.added_by) for each in members]
        print_table(("MEMBER", "ROLE", "SINCE", "BY"), rows)


def _versions(count: int) -> str:
    return f"{count:,} version{'' if count == 1 else 's'}"
