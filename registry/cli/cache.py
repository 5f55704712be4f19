"""`weighbridge cache`: the files that pulls and downloads left on this machine."""

from datetime import UTC, datetime
from typing import Any

import click

from registry.cli.options import as_json_option, confirm
from registry.cli.tables import print_json, print_table
from registry.client.cache import Cache, CacheEntry
from registry.client.config import default_cache_folder
from registry.errors import DigestMismatchError
from registry.sizes import format_size, parse_size

DEFAULT_AGE_DAYS = 30.0
_DAY_SECONDS = 86_400.0
_UNITS = {"d": 1.0, "h": 1 / 24, "w": 7.0}


class _Size(click.ParamType[int]):
    """A size such as `20GiB`, in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        try:
            return parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Age(click.ParamType[float]):
    """An age such as `30d`, in days."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the days."""
        text = str(value).strip()
        unit = _UNITS.get(text[-1:])
        try:
            days = float(text[:-1] if unit else text) * (unit or 1.0)
        except ValueError:
            days = -1.0
        if not 0 <= days < float("inf"):
            self.fail(f"{text!r} is no age: write it like 30d, 12h or 2w.", param, ctx)
        return days


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
    """List the files, those used longest ago first."""
    entries = sorted(_open().iter_entries(), key=lambda entry: entry.used_at)
    if as_json:
        print_json([_describe(each) for each in entries])
        return
    if entries:
        rows = [(e.digest, format_size(e.size_bytes), _used(e).strftime("%Y-%m-%d %H:%M")) for e in entries]
        print_table(("DIGEST", "SIZE", "LAST USED (UTC)"), rows, right=("SIZE",))
    total = sum(each.size_bytes for each in entries)
    click.echo(f"{len(entries)} files, {format_size(total)}.", err=True)


@cache.command("verify")
@as_json_option
def verify(*, as_json: bool) -> None:
    """Read every file again; damaged ones are removed, so that the next pull fetches them.

    Exit code 6 when there were any.
    """
    results = list(_open().verify())
    damaged = [entry.digest for entry, sound in results if not sound]
    if as_json:
        print_json({"files": len(results), "damaged": damaged})
    for digest in damaged:
        click.echo(f"damaged, removed: {digest}", err=True)
    if damaged:
        raise DigestMismatchError(f"{len(damaged)} of {len(results)} files were damaged. Pull again what you need.")
    click.echo(f"{len(results)} files, all sound.", err=True)


@cache.command("prune")
@click.option("--older-than", type=_Age(), metavar="AGE", help="Remove what was not used for so long, as 30d or 12h.")
@click.option(
    "--max-size",
    type=_Size(),
    metavar="SIZE",
    help="Remove what was used longest ago until the rest is at most so large, as 20GiB.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def prune(older_than: float | None, max_size: int | None, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove files. What a running job has open stays readable to it, and what is being downloaded stays.

    Without either limit, what was not used for 30 days goes.
    """
    if older_than is None and max_size is None:
        older_than = DEFAULT_AGE_DAYS
    folder = _open()
    unused_seconds = None if older_than is None else older_than * _DAY_SECONDS
    gone = folder.prune(unused_seconds=unused_seconds, max_bytes=max_size, dry_run=True)
    size = format_size(sum(each.size_bytes for each in gone))
    if not dry_run:
        confirm(f"Remove {len(gone)} files, {size}, of {folder.folder}?", yes=yes)
        gone = folder.prune(unused_seconds=unused_seconds, max_bytes=max_size)
    freed = sum(each.size_bytes for each in gone)
    if as_json:
        print_json({"removed": [each.digest for each in gone], "freed_bytes": freed, "dry_run": dry_run})
        return
    if dry_run:
        for each in gone:
            click.echo(each.digest)
    said = "Would remove" if dry_run else "Removed"
    click.echo(f"{said} {len(gone)} files, {format_size(freed)}.", err=True)


def _describe(entry: CacheEntry) -> dict[str, Any]:
    described = {"digest": entry.digest, "size_bytes": entry.size_bytes, "path": str(entry.path)}
    return described | {"used_at": _used(entry).isoformat()}


def _used(entry: CacheEntry) -> datetime:
    return datetime.fromtimestamp(entry.used_at, UTC)
