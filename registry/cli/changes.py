"""`weighbridge annotate`, `alias`, `visibility`, `delete` and `restore`: what may change after a push."""

from datetime import datetime

import click

from registry.cli.moments import ends
from registry.cli.options import client_options, confirm, parse_metrics, parse_pairs
from registry.cli.tables import print_alias_moves, print_aliases, print_json, print_version
from registry.client.client import Client
from registry.schema import VersionInfo
from registry.teams import Visibility


@click.command()
@click.argument("ref", metavar="REF")
@click.option("--metric", "metrics", metavar="NAME=NUMBER", multiple=True, help="Set a metric.")
@click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, help="Set a tag.")
@click.option("--remove-metric", "gone_metrics", metavar="NAME", multiple=True, help="Remove a metric.")
@click.option("--remove-tag", "gone_tags", metavar="KEY", multiple=True, help="Remove a tag.")
@click.option("--description", metavar="TEXT", help="Set the description.")
@click.option("--deprecated", metavar="REASON", help="Say why it should not be used; '' takes that back.")
@client_options
def annotate(
    *,
    client: Client,
    ref: str,
    metrics: tuple[str, ...],
    tags: tuple[str, ...],
    gone_metrics: tuple[str, ...],
    gone_tags: tuple[str, ...],
    description: str | None,
    deprecated: str | None,
    as_json: bool,
) -> None:
    """Change metrics, tags or description of a version.

    What is not named stays as it is.
    """
    if not (metrics or tags or gone_metrics or gone_tags) and description is None and deprecated is None:
        raise click.UsageError("Say what to change: --metric, --tag, --description, --deprecated …")
    version = client.annotate(
        ref,
        metrics={**parse_metrics(metrics), **dict.fromkeys(gone_metrics)},
        tags={**parse_pairs(tags, "--tag"), **dict.fromkeys(gone_tags)},
        description=description,
        deprecated=deprecated,
    )
    if as_json:
        print_json(version)
    else:
        print_version(version)


_SYNONYMS = {"list": "ls", "delete": "rm", "remove": "rm"}


class _AliasGroup(click.Group):
    """Takes `alias REF NAME` for `alias set REF NAME`, and the other commands' words for the same thing."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in _SYNONYMS:
            args = [_SYNONYMS[args[0]], *args[1:]]
        elif args and self.get_command(ctx, args[0]) is None:
            args = ["set", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_AliasGroup)
def alias() -> None:
    """Move names such as prod between versions.

    `weighbridge alias vision/resnet50:3 prod` is short for `alias set`.
    """


@alias.command("set")
@click.argument("ref", metavar="REF")
@click.argument("name")
@click.option("--reason", metavar="TEXT", default="", help="Why; kept in the history.")
@client_options
def set_alias(*, client: Client, ref: str, name: str, reason: str, as_json: bool) -> None:
    """Point the alias NAME at the version REF; made if it is new."""
    moved = client.alias(ref, name, reason=reason)
    if as_json:
        print_json(moved)
        return
    click.echo(f"{moved.team}/{moved.model}@{moved.name} is version {moved.version}.", err=True)


@alias.command("ls")
@click.argument("ref", metavar="MODEL")
@client_options
def list_aliases(*, client: Client, ref: str, as_json: bool) -> None:
    """List the aliases of a model."""
    found = client.aliases(ref)
    if as_json:
        print_json(found)
    elif found:
        print_aliases(found)
    else:
        click.echo("It has no aliases.", err=True)


@alias.command("history")
@click.argument("ref", metavar="MODEL")
@click.argument("name")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most so many.")
@click.option("--at", metavar="DAY", callback=ends, help="What it meant at the end of this day, or at this moment.")
@client_options
def show_history(*, client: Client, ref: str, name: str, limit: int | None, at: datetime | None, as_json: bool) -> None:
    """Show the moves of the alias NAME: who, when, from, to, why; or where it pointed at some time."""
    if at is not None:
        meant = client.alias_at(ref, name, at)
        print_json(meant) if as_json else click.echo(meant.version)
        return
    moves = client.alias_history(ref, name, limit=limit)
    if as_json:
        print_json(moves)
    else:
        print_alias_moves(moves)


@alias.command("rm")
@click.argument("ref", metavar="MODEL")
@click.argument("name")
@client_options
def remove_alias(*, client: Client, ref: str, name: str, as_json: bool) -> None:
    """Remove the alias NAME of a model; its history stays."""
    client.remove_alias(ref, name)
    if as_json:
        print_json({"removed": name})
        return
    click.echo(f"Removed the alias {name}.", err=True)


@click.command()
@click.argument("ref", metavar="MODEL")
@click.argument("readers", metavar="[team|everyone]", type=click.Choice(["team", "everyone"]), required=False)
@client_options
def visibility(*, client: Client, ref: str, readers: Visibility | None, as_json: bool) -> None:
    """Show or say who may read a model: its team, or everyone who has a token."""
    model = client.model(ref) if readers is None else client.set_visibility(ref, readers)
    if as_json:
        print_json(model)
        return
    click.echo(model.visibility)


@click.command()
@click.argument("ref", metavar="REF")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also a version that others are based on.")
@client_options
def delete(*, client: Client, ref: str, yes: bool, force: bool, as_json: bool) -> None:
    """Delete a version or a whole model.

    A whole model when REF names no version. `restore` takes it back.
    """
    confirm(f"Delete {ref}?", yes=yes)
    gone = client.delete(ref, force=force)
    name = gone.reference if isinstance(gone, VersionInfo) else gone.full_name
    if as_json:
        print_json({"deleted": name})
        return
    click.echo(f"Deleted {name}. `weighbridge restore {name}` takes it back.", err=True)


@click.command()
@click.argument("ref", metavar="REF")
@client_options
def restore(*, client: Client, ref: str, as_json: bool) -> None:
    """Take back a deletion.

    REF is a version by its number (TEAM/MODEL:3), or a model.
    """
    restored = client.restore(ref)
    if as_json:
        print_json(restored)
        return
    click.echo(f"Restored {ref}.", err=True)
