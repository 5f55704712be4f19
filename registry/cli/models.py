"""`weighbridge list`, `search`, `show`, `versions` and `best`: looking around."""

from typing import Literal

import click

from registry.cli.options import client_options, parse_pairs
from registry.cli.tables import print_facts, print_json, print_models, print_version, print_versions
from registry.cli.trust import print_sources
from registry.client.client import Client
from registry.errors import NotFoundError
from registry.lineage.documents import Lineage
from registry.schema import VersionInfo

_CARRY_SOURCE = frozenset({"torch-legacy", "torch-tar"})
limit_option = click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most so many.")


@click.command("list")
@click.option("--of-team", metavar="TEAM", help="Models of this team only.")
@click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, help="Models with this tag only.")
@click.option("--kind", metavar="KIND", help="Models of this kind only: state_dict, checkpoint, module, torchscript.")
@click.option("--sort", metavar="ORDER", help="name or updated; a leading - turns it round.")
@limit_option
@client_options
def list_(
    *,
    client: Client,
    of_team: str | None,
    tags: tuple[str, ...],
    kind: str | None,
    sort: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List the models."""
    found = client.list(team=of_team, tags=parse_pairs(tags, "--tag"), kind=kind, sort=sort, limit=limit)
    if as_json:
        print_json(found)
    elif found:
        print_models(found)
    else:
        click.echo("No models. `weighbridge push TEAM/MODEL FILE` makes the first.", err=True)


@click.command()
@click.argument("text")
@limit_option
@client_options
def search(*, client: Client, text: str, limit: int | None, as_json: bool) -> None:
    """Find models by name, description or tags."""
    found = client.search(text, limit=limit)
    if as_json:
        print_json(found)
    elif found:
        print_models(found)
    else:
        click.echo(f"No model holds {text!r} in its name, description or tags.", err=True)


@click.command()
@click.argument("ref", metavar="REF")
@click.option("--source", "source_only", is_flag=True, help="Print the source of classes that old torch files carry.")
@client_options
def show(*, client: Client, ref: str, source_only: bool, as_json: bool) -> None:
    """Show a version: files, metrics, tags, aliases; why it is trusted or not.

    Of a model, the latest one. `lineage` is what it shares with its base, or with what it has most in common with.
    Classes and functions that a file refers to are marked with a * when they belong
    neither to torch.nn nor to torch.optim.
    """
    version = client.show(ref)
    if source_only:
        _print_sources(client, version)
        return
    model = client.model(f"{version.team}/{version.model}")
    lineage = _find_lineage(client, version)
    if as_json:
        beside = {"model_info": model, "lineage": lineage}
        print_json(
            version.model_dump(mode="json")
            | {name: each and each.model_dump(mode="json") for name, each in beside.items()}
        )
        return
    facts = {"model": model.full_name, "about": model.description}
    facts["tagged"] = "  ".join(f"{name}={value}" for name, value in model.tags.items())
    facts["read by"] = "" if model.visibility == "team" else "everyone who has a token"
    facts["latest"] = f"{model.latest or 'none'}, of {model.version_count}"
    print_facts(facts)
    print_version(version, lineage="" if lineage is None else lineage.text)


def _find_lineage(client: Client, version: VersionInfo) -> Lineage | None:
    """Return where a version comes from; None where the service is too old to say."""
    try:
        return client.lineage(version.reference)
    except NotFoundError:
        return None


def _print_sources(client: Client, version: VersionInfo) -> None:
    carriers = [each for each in version.artifacts if each.manifest and each.format in _CARRY_SOURCE]
    found = {each.path: client.inspect(f"{version.reference}/{each.path}").sources for each in carriers}
    for path, sources in found.items():
        print_sources(path, sources)
    if not found:
        print_sources(version.reference, {})


@click.command()
@click.argument("ref", metavar="MODEL")
@click.option(
    "--sort", metavar="ORDER", default="-number", show_default=True, help="number, created or metrics.NAME; - turns it."
)
@click.option("--deleted", is_flag=True, help="Deleted ones too.")
@limit_option
@client_options
def versions(*, client: Client, ref: str, sort: str, limit: int | None, deleted: bool, as_json: bool) -> None:
    """List the versions of a model."""
    found = client.versions(ref, sort=sort, limit=limit, deleted=deleted)
    if as_json:
        print_json(found)
    elif found:
        print_versions(found)
    else:
        click.echo("It has no versions.", err=True)


@click.command()
@click.argument("ref", metavar="MODEL")
@click.argument("metric")
@click.option("--mode", type=click.Choice(["min", "max"]), default="max", show_default=True, help="Which end is good.")
@client_options
def best(*, client: Client, ref: str, metric: str, mode: Literal["min", "max"], as_json: bool) -> None:
    """Show the version with the best METRIC.

    Prints its reference and the value.
    """
    found = client.best(ref, metric, mode=mode)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found.reference}\t{found.annotations.metrics[metric]:g}")
