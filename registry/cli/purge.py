"""`weighbridge purge`: the content of a version goes for good, after the caller has seen what that is."""

import click

from registry.cli.options import client_options, confirm
from registry.cli.tables import clean, print_json
from registry.client.changes import find_purgeable
from registry.client.client import Client
from registry.schema import PurgeInfo, VersionInfo
from registry.sizes import format_size

_SHOWN_FILES = 5


@click.command()
@click.argument("ref", metavar="REF")
@click.option("--reason", metavar="TEXT", required=True, help="Why; kept, and told to whoever asks for the version.")
@click.option("--now", is_flag=True, help="Also when it is not deleted: for weights that should never have been here.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@client_options
def purge(*, client: Client, ref: str, reason: str, now: bool, yes: bool, as_json: bool) -> None:
    """Remove the files of a deleted version for good.

    REF is a version by its number (TEAM/MODEL:3). Nothing takes this back; the number stays taken. Says what was
    freed, and which versions still hold the same bytes.
    """
    if not yes:
        confirm(_question(ref, find_purgeable(client.connection, ref)), yes=False)
    purged = client.purge(ref, reason=reason, now=now)
    if as_json:
        print_json({"purged": ref, **purged.model_dump(mode="json")})
        return
    click.echo(f"Purged {ref}: {_outcome(purged)}", err=True)


def _question(ref: str, version: VersionInfo | None) -> str:
    if version is None:
        return f"Purge {ref}? Nothing takes this back."
    names = [clean(each.path) for each in version.artifacts]
    more = f" and {len(names) - _SHOWN_FILES} more" if len(names) > _SHOWN_FILES else ""
    aliases = f" and the aliases {', '.join(version.aliases)}" if version.aliases else ""
    lost = f"{', '.join(names[:_SHOWN_FILES])}{more} ({format_size(version.size_bytes)}){aliases}"
    return f"Purge {version.reference}? For good go {lost}."


def _outcome(purged: PurgeInfo) -> str:
    freed = f"{format_size(purged.freed_bytes)} ({purged.freed_bytes:,} bytes) freed."
    if not purged.still_held_bytes:
        return freed
    held = f"{format_size(purged.still_held_bytes)} ({purged.still_held_bytes:,} bytes)"
    hidden = [f"{purged.held_by_more} more versions"] if purged.held_by_more else []
    holders = ", ".join([*purged.held_by, *hidden])
    return f"{freed} {held} stay, held by {holders}. Purge these, too, where the bytes must go."
