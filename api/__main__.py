"""`python -m api`: run the service, and look after what it keeps."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from api.service import open_settings
from api.serving import serve as serve_settings
from api.settings import read_settings
from registry.errors import WeighbridgeError
from registry.teams import Scope, TokenCreate
from storage.access import Caller
from storage.garbage import collect
from storage.installation import migrate as migrate_database
from storage.repack import repack
from storage.stores import Stores
from storage.teams import make_administrator
from storage.tokens import create_token

OPERATOR = Caller("operator", is_administrator=True)


@contextmanager
def opened(*, adopts_registry: bool = False) -> Generator[Stores]:
    """Give the installation's stores for one command."""
    stores = open_settings(read_settings(), adopts_registry=adopts_registry)
    try:
        yield stores
    finally:
        stores.close()


class SayingGroup(click.Group):
    """Says a named failure in one sentence, and ends with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except WeighbridgeError as error:
            raise click.ClickException(error.detail) from error


@click.group(cls=SayingGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Weighbridge's service. Settings are WEIGHBRIDGE_… variables; see docs/operating.md."""


@main.command()
@click.option("--host", help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port to listen on.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes; more than one needs PostgreSQL.")
def serve(host: str | None, port: int | None, data: Path | None, workers: int | None) -> None:
    """Serve until a signal says stop; running requests finish first."""
    serve_settings(read_settings(host=host, port=port, data=data, workers=workers))


@main.command()
def migrate() -> None:
    """Bring the database to this version's schema."""
    done = migrate_database(read_settings().catalog_url)
    click.echo("The database was migrated." if done else "The database is up to date.", err=True)


@main.command()
@click.option("--dry-run", is_flag=True, help="Say what would go.")
@click.option("--force", is_flag=True, help="Also when more would go than recorded deletions explain.")
def gc(*, dry_run: bool, force: bool) -> None:
    """Delete the bytes of purged versions and of uploads that never finished; write anew what is mostly dead."""
    with opened() as stores:
        done = collect(stores, OPERATOR, dry_run=dry_run, is_forced=force)
        repacked = repack(stores, OPERATOR, dry_run=dry_run) if done.ran else None
    if not done.ran:
        raise click.ClickException("Another process is collecting. Nothing was done.")
    counts = asdict(done) | ({} if repacked is None else asdict(repacked))
    click.echo(json.dumps({name: count for name, count in counts.items() if name != "ran"}))


@main.command()
@click.option("--verify-bytes", is_flag=True, help="Read every object and compare it with its SHA-256.")
@click.option("--repair", is_flag=True, help="Mark what is damaged, write missing records again. Deletes nothing.")
@click.option("--rebuild", is_flag=True, help="Fill an empty database from the records in the store.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each finding, and one with the counts.")
def fsck(*, verify_bytes: bool, repair: bool, rebuild: bool, as_json: bool) -> None:
    """Check that every version can be read and that every key in the store is accounted for; 1 when not.

    The service may run meanwhile. With --rebuild it must not: an empty database is filled from the records in the
    store, and every artifact is read and verified again.
    """
    from api.checking import print_findings, print_rebuilt
    from storage.fsck import fsck as check
    from storage.rebuild import rebuild as rebuild_catalog

    if rebuild:
        with opened(adopts_registry=True) as stores:
            is_well = print_rebuilt(rebuild_catalog(stores, OPERATOR), as_json=as_json)
        if not is_well:
            raise click.exceptions.Exit(1)
        return

    with opened() as stores:
        is_well = print_findings(check(stores, OPERATOR, reads_bytes=verify_bytes, repairs=repair), as_json=as_json)
    if not is_well:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def backup(folder: Path) -> None:
    """Copy all rows, then the objects that they name, into FOLDER. The service may run meanwhile."""
    from storage.backup import backup as save_backup

    with opened() as stores:
        copied = save_backup(stores, OPERATOR, folder)
    click.echo(json.dumps(asdict(copied)))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--keep-tokens", is_flag=True, help="Let tokens work again, also those revoked since the backup.")
def restore(folder: Path, *, keep_tokens: bool) -> None:
    """Bring a backup back into an empty installation, whatever its database and blob store."""
    from storage.backup import restore as restore_backup

    with opened() as stores:
        copied = restore_backup(stores, OPERATOR, folder, keep_tokens=keep_tokens)
    click.echo(json.dumps(asdict(copied)))


@main.command()
@click.argument("user")
@click.option("--administrator", is_flag=True, help="Make the user, or let them administer the installation.")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="How long it lives.")
def token(user: str, *, administrator: bool, days: int) -> None:
    """Print a token for USER that may do all that they may: for when nobody can log in any more."""
    with opened() as stores:
        if administrator:
            make_administrator(stores, OPERATOR, user)
        create = TokenCreate(name="made by the operator", user=user, scopes=list(Scope), expires_in_days=days)
        made = create_token(stores, OPERATOR, create)
    click.echo(made.token)


@main.command()
def openapi() -> None:
    """Print the description of the HTTP API (docs/api/openapi.json)."""
    from api.openapi import describe

    click.echo(describe(), nl=False)


if __name__ == "__main__":
    main(prog_name="python -m api")
