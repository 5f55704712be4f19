"""`weighbridge user`: the people and jobs that may have tokens, for administrators."""

import click

from registry.cli.options import service_options
from registry.cli.tables import day, print_json, print_table
from registry.client.client import Client
from registry.teams import UserInfo


@click.group()
def user() -> None:
    """Make users, let them in and shut them out (administrators)."""


@user.command("list")
@service_options
def list_users(*, client: Client, as_json: bool) -> None:
    """List all users."""
    found = client.users()
    if as_json:
        print_json(found)
        return
    rows = [(each.name, _state(each), day(each.created_at), each.created_by) for each in found]
    print_table(("USER", "STATE", "MADE", "BY"), rows)


@user.command("add")
@click.argument("name")
@click.option("--administrator", is_flag=True, help="They may do everything in the installation.")
@service_options
def add_user(*, client: Client, name: str, administrator: bool, as_json: bool) -> None:
    """Make a user, who can do nothing before they have a role or a token."""
    made = client.create_user(name, administrator=administrator)
    if as_json:
        print_json(made)
        return
    click.echo(f"Made {name}.", err=True)
    if not administrator:
        click.echo(f"`weighbridge team add TEAM {name} --role ROLE` lets them into a team,", err=True)
    click.echo(f"`weighbridge token create NAME --user {name}` makes their first token.", err=True)


@user.command("disable")
@click.argument("name")
@service_options
def disable_user(*, client: Client, name: str, as_json: bool) -> None:
    """Shut a user out, with all their tokens, from their next request on."""
    _say(client.update_user(name, disabled=True), f"{name} is shut out.", as_json=as_json)


@user.command("enable")
@click.argument("name")
@service_options
def enable_user(*, client: Client, name: str, as_json: bool) -> None:
    """Let a user in again, with the tokens and roles that they had."""
    _say(client.update_user(name, disabled=False), f"{name} may come in again.", as_json=as_json)


@user.command("set")
@click.argument("name")
@click.option("--administrator/--no-administrator", required=True, help="Whether they may do everything here.")
@service_options
def set_user(*, client: Client, name: str, administrator: bool, as_json: bool) -> None:
    """Make a user an administrator, or take that away."""
    said = "an administrator now" if administrator else "no administrator any more"
    _say(client.update_user(name, administrator=administrator), f"{name} is {said}.", as_json=as_json)


def _say(user: UserInfo, said: str, *, as_json: bool) -> None:
    if as_json:
        print_json(user)
        return
    click.echo(said, err=True)


def _state(user: UserInfo) -> str:
    if user.disabled_at is not None:
        return f"shut out {day(user.disabled_at)}"
    return "administrator" if user.administrator else "-"
