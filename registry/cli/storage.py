"""`weighbridge storage`: what teams and models take, and what sharing saves."""

import click

from registry.cli.options import service_options
from registry.cli.tables import print_facts, print_json, print_table
from registry.client.client import Client
from registry.sizes import format_share, format_size
from registry.usage import ModelStorage, TeamStorage

_NUMBERS = ("VERSIONS", "AS FILES", "STORED", "SAVED", "ALONE")


@click.command()
@click.argument("team", required=False)
@service_options
def storage(*, client: Client, team: str | None, as_json: bool) -> None:
    """Show what your teams take, or each model of TEAM.

    AS FILES is what all versions would take by themselves, STORED what they take, SAVED what sharing saves: equal
    files and equal tensors are stored once in a team, and count for the model that had them first. ALONE is what no
    other model of the team needs. Deleted versions count until they are purged.
    """
    if team is None:
        _print_teams([client.storage(each.name) for each in client.teams()], as_json=as_json)
        return
    found, models = client.storage(team), client.storage_by_model(team)
    if as_json:
        print_json({**found.model_dump(mode="json"), "models": [each.model_dump(mode="json") for each in models]})
        return
    print_facts(
        {
            "team": found.team,
            "versions": f"{found.version_count:,}",
            "as files": format_size(found.logical_bytes),
            "stored": f"{format_size(found.stored_bytes)} in {found.object_count:,} objects",
            "saved": _saved(found),
        }
    )
    if models:
        click.echo()
        _print_models(sorted(models, key=lambda each: -each.stored_bytes))


def _print_teams(teams: list[TeamStorage], *, as_json: bool) -> None:
    if as_json:
        print_json(teams)
    elif teams:
        rows = [
            (
                each.team,
                f"{each.version_count:,}",
                format_size(each.logical_bytes),
                format_size(each.stored_bytes),
                _saved(each),
            )
            for each in teams
        ]
        print_table(("TEAM", "VERSIONS", "AS FILES", "STORED", "SAVED"), rows, right=_NUMBERS)
    else:
        click.echo("You are in no team.", err=True)


def _print_models(models: list[ModelStorage]) -> None:
    rows = [
        (
            each.model + (" (deleted)" if each.is_deleted else ""),
            f"{each.version_count:,}",
            format_size(each.logical_bytes),
            format_size(each.stored_bytes),
            _saved(each),
            format_size(each.own_bytes),
        )
        for each in models
    ]
    print_table(("MODEL", "VERSIONS", "AS FILES", "STORED", "SAVED", "ALONE"), rows, right=_NUMBERS)


def _saved(each: TeamStorage | ModelStorage) -> str:
    return f"{format_size(each.saved_bytes)} ({format_share(each.saved_bytes, max(each.logical_bytes, 1))})"
