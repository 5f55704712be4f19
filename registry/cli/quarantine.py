"""`weighbridge quarantine`: what would do harm and is kept all the same, for admins to look into."""

import click

from registry.cli.options import service_options
from registry.cli.tables import day, print_json, print_table
from registry.client.client import Client


@click.group()
def quarantine() -> None:
    """Look into files that would do harm (a team's admins).

    `weighbridge team set TEAM --unsafe quarantine` keeps them; nobody can download them without an override.
    """


@quarantine.command("list")
@click.argument("team")
@service_options
def list_overrides(*, client: Client, team: str, as_json: bool) -> None:
    """List what a team's admins may download, and why."""
    found = client.overrides(team)
    if as_json:
        print_json(found)
    elif found:
        rows = [(each.sha256, day(each.created_at), each.created_by, each.reason) for each in found]
        print_table(("SHA-256", "SINCE", "BY", "REASON"), rows)
    else:
        click.echo("Nothing in quarantine may be downloaded.", err=True)


@quarantine.command("override")
@click.argument("team")
@click.argument("sha256")
@click.option("--reason", metavar="TEXT", required=True, help="Why; kept in the audit.")
@service_options
def set_override(*, client: Client, team: str, sha256: str, reason: str, as_json: bool) -> None:
    """Let a team's admins download the bytes with the digest SHA256."""
    made = client.override(team, sha256, reason=reason)
    if as_json:
        print_json(made)
        return
    click.echo(f"Admins of {team} may download {made.sha256}. Load it nowhere that matters.", err=True)


@quarantine.command("remove")
@click.argument("team")
@click.argument("sha256")
@service_options
def remove_override(*, client: Client, team: str, sha256: str, as_json: bool) -> None:
    """Take an override back."""
    client.remove_override(team, sha256)
    if as_json:
        print_json({"team": team, "removed": sha256})
        return
    click.echo(f"Nobody may download {sha256} any more.", err=True)
