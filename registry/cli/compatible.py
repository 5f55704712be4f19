"""`weighbridge compatible`: which versions would load into a module, or into a part of it."""

from typing import Any

import click

from registry.cli.options import client_options
from registry.cli.tables import print_json, print_table
from registry.cli.target import resolve_target
from registry.client.client import Client
from registry.client.discovery import Match, percent
from registry.matches import MAX_MATCHES

_HEAD = ("SHARE", "VERDICT", "INTO", "VERSION", "MORE", "NEEDS")


@click.command()
@click.option(
    "--target",
    "wanted",
    metavar="TARGET",
    required=True,
    help="What shall be filled: MODULE:CALLABLE, the JSON of an architecture, a file or a reference.",
)
@click.option("--arg", "arguments", metavar="KEY=VALUE", multiple=True, help="An argument of the callable, as JSON.")
@click.option("--trust-builder", is_flag=True, help="Call a callable of any library; it runs that code.")
@click.option("--part", metavar="NAME", help="The state_dict inside a checkpoint that is the target.")
@click.option("--of-team", metavar="TEAM", help="Models of this team only.")
@click.option(
    "--kind", type=click.Choice(["state_dict", "checkpoint", "module", "torchscript"]), help="This kind only."
)
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, MAX_MATCHES), default=10, show_default=True, help="At most so many."
)
@client_options
def compatible(
    *,
    client: Client,
    wanted: str,
    arguments: tuple[str, ...],
    trust_builder: bool,
    part: str | None,
    of_team: str | None,
    kind: Any,
    limit: int,
    as_json: bool,
) -> None:
    """Find the versions that would load into TARGET or a submodule of it, the best first.

    Nothing is fetched or loaded. SHARE is how much of the target's parameters a version would initialise, INTO where
    it goes; versions of one architecture are one line, named by the newest. `weighbridge check` says more of one.

    \b
    weighbridge compatible --target torchvision.models:resnet50 --arg num_classes=10
    """  # noqa: D301 - \b keeps Click from wrapping the example
    target = resolve_target(client, wanted, arguments, trust_builder=trust_builder, part=part)
    found = client.compatible(target.value, team=of_team, kind=kind, limit=limit)
    if as_json:
        print_json(found)
    elif found:
        print_table(_HEAD, [_row(each) for each in found], right=("SHARE", "MORE"))
    if not found:
        click.echo(f"Nothing that you may read fits {target.name} or a submodule of it.", err=True)


def _row(match: Match) -> tuple[str, ...]:
    newest = match.versions[0] if match.versions else None
    named = match.architecture if newest is None else newest.reference
    part = f" (part {newest.part})" if newest is not None and newest.part else ""
    source = f" (its {match.source_prefix})" if match.source_prefix else ""
    others = match.version_count - 1
    return (
        percent(match.share),
        match.verdict,
        match.into or "(whole)",
        f"{named}{part}{source}",
        f"+{others:,}" if others > 0 else "",
        ", ".join([*match.needs, *match.reasons]),
    )
