"""`weighbridge user`: the people and jobs that may have tokens, for administrators."""

from collections.abc import Callable

import click

from registry.cli.options import service_options
from registry.cli.tables import day, in_order, print_json, print_table
from registry.cli.tokens import EVERY_SCOPE
from registry.client.client import Client
from registry.identities import IdentityInfo
from registry.teams import Scope, UserInfo


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


_of_an_issuer = (
    click.option("--issuer", metavar="URL", required=True, help="`iss` of its tokens, character by character."),
    click.option("--subject", metavar="TEXT", required=True, help="`sub` of its tokens, character by character."),
)


def issuer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say who somebody is elsewhere."""
    for option in reversed(_of_an_issuer):
        command = option(command)
    return command


@user.command("trust")
@click.argument("name")
@issuer_options
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice([*map(str, Scope), EVERY_SCOPE]),
    help="What a job may do; may repeat.",
)  # fmt: skip
@click.option(
    "--target", "targets", metavar="TEAM[/MODEL]", multiple=True, help="To this only; may repeat [default: all]."
)
@click.option("--sign-in", is_flag=True, help="It is a person, who signs in with a browser.")
@service_options
def trust_user(
    *,
    client: Client,
    name: str,
    issuer: str,
    subject: str,
    scopes: tuple[str, ...],
    targets: tuple[str, ...],
    sign_in: bool,
    as_json: bool,
) -> None:
    """Let in as NAME whomever an issuer calls by a subject: a job that sends a JWT, or a person.

    The service must know the issuer: WEIGHBRIDGE_JOB_ISSUERS, or WEIGHBRIDGE_OIDC_ISSUER for a person.
    """
    if not sign_in and not scopes:
        raise click.UsageError("Say what the job may do (--scope read), or --sign-in for a person.")
    given = tuple(Scope) if EVERY_SCOPE in scopes else scopes
    made = client.trust(name, issuer=issuer, subject=subject, scopes=given, targets=targets, sign_in=sign_in)
    if as_json:
        print_json(made)
        return
    click.echo(f"{made.subject} of {made.issuer} comes in as {made.user}: {_may(made)}.", err=True)


@user.command("trusted")
@click.argument("name")
@service_options
def list_trusted(*, client: Client, name: str, as_json: bool) -> None:
    """List who NAME is at other services."""
    found = client.identities(name)
    if as_json:
        print_json(found)
        return
    rows = [(each.issuer, each.subject, _may(each), day(each.created_at), each.created_by) for each in found]
    print_table(("ISSUER", "SUBJECT", "MAY", "MADE", "BY"), rows)


@user.command("distrust")
@click.argument("name")
@issuer_options
@service_options
def distrust_user(*, client: Client, name: str, issuer: str, subject: str, as_json: bool) -> None:
    """Let a subject in no more as NAME, and end the tokens that were made on its issuer's word."""
    ended = client.distrust(name, issuer=issuer, subject=subject)
    if as_json:
        print_json(ended)
        return
    click.echo(f"{ended.subject} of {ended.issuer} comes in no more; its tokens have ended.", err=True)


def _may(identity: IdentityInfo) -> str:
    if identity.use == "sign_in":
        return "signs in"
    return f"{', '.join(in_order(identity.scopes))} in {', '.join(identity.targets) or 'all that they may'}"


def _say(user: UserInfo, said: str, *, as_json: bool) -> None:
    if as_json:
        print_json(user)
        return
    click.echo(said, err=True)


def _state(user: UserInfo) -> str:
    if user.disabled_at is not None:
        return f"shut out {day(user.disabled_at)}"
    return "administrator" if user.administrator else "-"
