"""`weighbridge cache`: the files that pulls and downloads left on this machine."""

import click

from registry.cli.options import as_json_option, confirm
from registry.cli.tables import print_json, print_table
from registry.client.cache import Cache
from registry.client.config import default_cache_folder
from registry.errors import DigestMismatchError
from registry.sizes import format_size


@click.group()
def cache() -> None:
    """Look after downloaded files."""


def _open() -> Cache:
    return Cache(default_cache_folder())


@cache.command("dir")
def show_folder() -> None:
    """Print the cache folder [env: WEIGHBRIDGE_CACHE]."""
    click.echo(str(_open().folder))


@cache.command("ls")
@as_json_option
def list_entries(*, as_json: bool) -> None:
    """List the files."""
    entries = list(_open().iter_entries())
    if as_json:
        print_json([{"sha256": e.sha256, "size_bytes": e.size_bytes, "path": str(e.path)} for e in entries])
        return
    if entries:
        print_table(("SHA-256", "SIZE"), [(e.sha256, format_size(e.size_bytes)) for e in entries], right=("SIZE",))
    total = sum(each.size_bytes for each in entries)
    click.echo(f"{len(entries)} files, {format_size(total)}.", err=True)


@cache.command("verify")
@as_json_option
def verify(*, as_json: bool) -> None:
    """Read every file again; damaged ones are removed, so that the next pull fetches them.

    Exit code 6 when there were any.
    """
    results = list(_open().verify())
    damaged = [entry.sha256 for entry, sound in results if not sound]
    if as_json:
        print_json({"files": len(results), "damaged": damaged})
    for digest in damaged:
        click.echo(f"damaged, removed: {digest}", err=True)
    if damaged:
        raise DigestMismatchError(f"{len(damaged)} of {len(results)} files were damaged. Pull again what you need.")
    click.echo(f"{len(results)} files, all sound.", err=True)


@cache.command("prune")
@click.option("--unused-days", metavar="DAYS", type=click.FloatRange(min=0), default=30, show_default=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def prune(unused_days: float, *, yes: bool, as_json: bool) -> None:
    """Remove files that were not used for some days. What a running job has open stays readable to it."""
    folder = _open()
    confirm(f"Remove files of {folder.folder} that were not used for {unused_days:g} days?", yes=yes)
    gone = folder.prune(unused_days * 86400)
    freed = sum(each.size_bytes for each in gone)
    if as_json:
        print_json({"removed": [each.sha256 for each in gone], "freed_bytes": freed})
        return
    click.echo(f"Removed {len(gone)} files, {format_size(freed)}.", err=True)
