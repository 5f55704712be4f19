"""`weighbridge export`, and what `weighbridge import` does with the folder that it wrote."""

from pathlib import Path
from typing import Any

import click

from registry.cli.options import service_options
from registry.cli.tables import clean, print_json, print_table
from registry.client.client import Client
from registry.errors import WeighbridgeError
from registry.exporting.documents import Counts
from registry.exporting.outcomes import TeamImport
from registry.exporting.team_export import TeamExport
from registry.sizes import format_size


@click.command()
@click.argument("team", metavar="TEAM")
@click.option(
    "-o", "--output", "folder", metavar="DIR", required=True, type=click.Path(path_type=Path), help="Where to."
)
@click.option("--models", metavar="GLOB", multiple=True, help="Only models of such names ('resnet*'); may repeat.")
@service_options
def export(*, client: Client, team: str, folder: Path, models: tuple[str, ...], as_json: bool) -> None:
    """Write the models of a team as plain files and JSON.

    All of it that you may read: the very files, each verified, and beside them what the service knows of them. Again
    into the same DIR, it fetches only what is missing or damaged there. `weighbridge import DIR` reads it.
    """
    done = client.export_team(team, folder, models=models, say=_say)
    if as_json:
        print_json({**done.info.model_dump(mode="json"), **_run_of(done)})
        _exit_with(done.failure)
        return
    counts = done.info.counts
    click.echo(
        f"Exported {_many(counts.models, 'model')}, {_many(counts.versions, 'version')}, {_many(counts.files, 'file')} "
        f"({format_size(counts.size_bytes)}); fetched {done.copied_files} of them "
        f"({format_size(done.copied_bytes)}) just now.",
        err=True,
    )
    for notice in (*_left_out(counts), *done.notices):
        click.echo(f"note: {clean(notice)}", err=True)
    click.echo(str(done.folder))
    if done.failure is not None:
        raise done.failure


def import_export(client: Client, folder: Path, *, team: str | None, dry_run: bool, as_json: bool) -> None:
    """Import an export folder, and say what became of each version and alias.

    Raises:
        WeighbridgeError: the first refusal, after everything else is there.
    """
    done = client.import_team(folder, team=team, dry_run=dry_run, say=_say)
    if as_json:
        print_json(_document(done, dry_run=dry_run))
        _exit_with(done.failure)
        return
    versions = [(each.source, each.reference or "-", _words(each.state), each.why) for each in done.versions]
    aliases = [
        (each.alias, "-" if each.version is None else str(each.version), _words(each.state), each.why)
        for each in done.aliases
    ]
    if versions:
        print_table(("EXPORTED AS", "HERE", "IS", "WHY"), versions)
    if aliases:
        print_table(("ALIAS", "VERSION", "IS", "WHY"), aliases, right=("VERSION",))
    for notice in done.notices:
        click.echo(f"note: {clean(notice)}", err=True)
    new = sum(each.state == "new" for each in done.versions)
    click.echo(f"{'Would import' if dry_run else 'Imported'} {new} of {len(done.versions)} versions.", err=True)
    if done.failure is not None:
        raise done.failure


def _exit_with(failure: WeighbridgeError | None) -> None:
    if failure is not None:
        from registry.cli.group import exit_code

        click.get_current_context().exit(exit_code(failure))


def _say(text: str) -> None:
    click.echo(clean(text), err=True)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _words(state: str) -> str:
    return state.replace("_", " ")


def _run_of(done: TeamExport) -> dict[str, Any]:
    return {
        "folder": str(done.folder),
        "copied_files": done.copied_files,
        "copied_bytes": done.copied_bytes,
        "notices": done.notices,
        "failure": _told(done.failure),
    }


def _told(failure: WeighbridgeError | None) -> dict[str, str] | None:
    return None if failure is None else {"code": failure.code, "detail": failure.detail}


def _left_out(counts: Counts) -> list[str]:
    told: list[str] = []
    if counts.files_left_out:
        told.append(f"Left out: {_many(counts.files_left_out, 'file')}. The JSON of their versions says why.")
    if counts.versions_left_out:
        told.append(f"Left out: {_many(counts.versions_left_out, 'version')}, deleted or purged.")
    if counts.versions_not_shown:
        told.append(f"Not shown to you, or of deleted models: {_many(counts.versions_not_shown, 'version')}.")
    return told


def _document(done: TeamImport, *, dry_run: bool) -> dict[str, Any]:
    versions = [
        {"source": each.source, "reference": each.reference, "state": each.state, "why": each.why}
        for each in done.versions
    ]
    aliases = [
        {"alias": each.alias, "version": each.version, "state": each.state, "why": each.why} for each in done.aliases
    ]
    return {
        "team": done.team,
        "dry_run": dry_run,
        "versions": versions,
        "aliases": aliases,
        "notices": done.notices,
        "failure": _told(done.failure),
    }
