"""`weighbridge import`: published weights, URLs, folders, local caches and exported teams become versions."""

from collections.abc import Sequence

import click

from registry.cli.exporting import import_export
from registry.cli.options import client_options, parse_pairs
from registry.cli.tables import print_json
from registry.client.client import Client
from registry.exporting.reading import is_export
from registry.importing.importer import Imported, import_source
from registry.importing.sources import Source, is_source, parse_source
from registry.paths import expand_home
from registry.sizes import format_size

_SOURCE_AND_REF = 2


@click.command("import")
@click.argument("sources", metavar="SOURCE... [REF]", nargs=-1, required=True)
@click.option("--sha256", metavar="HEX", help="The digest that the file of a URL must have.")
@click.option(
    "--mirror",
    metavar="URL",
    envvar="WEIGHBRIDGE_MIRROR",
    show_envvar=True,
    help="Fetch from here what torchvision, timm and the Hub have under their own hosts.",
)
@click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, help="A word, such as data=imagenet.")
@click.option("--alias", "aliases", metavar="NAME", multiple=True, help="Move this alias to the new version.")
@click.option("--dry-run", is_flag=True, help="Of an exported DIR: verify it, and only say what would be done.")
@client_options
def import_(
    *,
    client: Client,
    sources: tuple[str, ...],
    sha256: str | None,
    mirror: str | None,
    tags: tuple[str, ...],
    aliases: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish what others have published, or what this machine's caches hold.

    \b
    SOURCE is one of
      torchvision:resnet50/IMAGENET1K_V2   its default weights without a name
      timm:resnet18.a1_in1k                its default tag without one
      https://…/model.safetensors          a file
      FOLDER                               as it is; its README.md gives licence and tags
      DIR                                  what `weighbridge export` wrote: all of its versions and aliases, into the
                                           team of the same name, or --team
      hub:org/name@revision                from the cache of huggingface_hub
      torchhub:resnet18-f37072fd.pth       from the cache of torch.hub

    REF is the model, after a single SOURCE; by default the source's name in your team. Importing again what is there
    makes no new version. Prints the references.
    """  # noqa: D301 - \b keeps Click from wrapping the list
    details = {"tags": parse_pairs(tags, "--tag"), "aliases": list(aliases)}
    options = {"--sha256": sha256, "--tag": tags, "--alias": aliases}
    if _names_export(sources, [name for name, value in options.items() if value], dry_run=dry_run):
        team = click.get_current_context().params["team"]
        import_export(client, expand_home(sources[0]), team=team, dry_run=dry_run, as_json=as_json)
        return
    given = list(sources)
    # A second word is a reference unless it says where something is: `vision/resnet50` may be a folder too.
    ref = given.pop() if len(given) == _SOURCE_AND_REF and not is_source(given[1]) else None
    parsed = [parse_source(each) for each in given]
    if len(parsed) > 1 and (sha256 or aliases):
        raise click.UsageError("--sha256 and --alias are for a single SOURCE.")
    documents: list[object] = []
    for source in parsed:
        imported = import_source(client.connection, source, ref, sha256=sha256, mirror=mirror, details=details)
        if as_json:
            documents.append({**imported.version.model_dump(mode="json"), "is_new": imported.is_new})
        else:
            _say(source, imported)
    if as_json:
        print_json(documents[0] if len(documents) == 1 else documents)


def _names_export(sources: Sequence[str], options: Sequence[str], *, dry_run: bool) -> bool:
    """Return whether what is imported is an exported team.

    Raises:
        click.UsageError: it is, and comes with others or with options that it does not take; or it is not.
    """
    exports = [each for each in sources if is_export(each)]
    if exports and (len(sources) > 1 or options):
        raise click.UsageError(f"{exports[0]} is an exported team: it comes alone, with --team and --dry-run only.")
    if dry_run and not exports:
        raise click.UsageError("--dry-run is for a folder that `weighbridge export` wrote.")
    return bool(exports)


def _say(source: Source, imported: Imported) -> None:
    for notice in imported.notices:
        click.echo(f"note: {notice}", err=True)
    version = imported.version
    if imported.is_new:
        size = format_size(version.size_bytes)
        licence = f", {version.origin.license}" if version.origin and version.origin.license else ""
        click.echo(f"Imported {source}: {size}, {version.kind}, trust: {version.trust}{licence}.", err=True)
    else:
        click.echo(f"{source} is there already.", err=True)
    click.echo(version.reference)
