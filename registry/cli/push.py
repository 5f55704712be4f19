"""`weighbridge push`: files and folders become a new version."""

import warnings

import click

from registry.cli.options import client_options, parse_metrics, parse_pairs
from registry.cli.tables import print_artifact_trust, print_json
from registry.client.client import Client
from registry.client.push import SkippedFilesWarning
from registry.sizes import format_size


@click.command()
@click.argument("ref", metavar="REF")
@click.argument("files", metavar="FILE|FOLDER...", nargs=-1, required=True, type=click.Path())
@click.option("--metric", "metrics", metavar="NAME=NUMBER", multiple=True, help="A number, such as top1=0.803.")
@click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, help="A word, such as data=imagenet.")
@click.option("--alias", "aliases", metavar="NAME", multiple=True, help="Move this alias to the new version.")
@click.option("--description", metavar="TEXT", default="", help="A text for people.")
@click.option("--base", metavar="REF", help="The version that this one was fine-tuned from.")
@click.option("--primary", metavar="FILE", help="The file that is the state_dict when there are several.")
@client_options
def push(
    *,
    client: Client,
    ref: str,
    files: tuple[str, ...],
    metrics: tuple[str, ...],
    tags: tuple[str, ...],
    aliases: tuple[str, ...],
    description: str,
    base: str | None,
    primary: str | None,
    as_json: bool,
) -> None:
    """Publish files as a new version of a model.

    REF is the model, such as vision/resnet50; it is made if it is new. Links and dot-files of a folder are left out.
    Prints the new version's reference.
    """
    warnings.simplefilter("ignore", SkippedFilesWarning)  # said below, among the version's notices
    version = client.push(
        ref,
        list(files),
        metrics=parse_metrics(metrics),
        tags=parse_pairs(tags, "--tag"),
        alias=aliases,
        description=description,
        base=base,
        primary=primary,
    )
    if as_json:
        print_json(version)
        return
    for notice in version.notices:
        click.echo(f"note: {notice}", err=True)
    count = len(version.artifacts)
    click.echo(
        f"Pushed {count} {'file' if count == 1 else 'files'}, {format_size(version.size_bytes)}: "
        f"{version.kind}, trust: {version.trust}.",
        err=True,
    )
    if print_artifact_trust(version, err=True):
        click.echo(err=True)
    click.echo(version.reference)
