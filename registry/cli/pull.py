"""`weighbridge download` and `weighbridge pull`: bytes, or tensors."""

from pathlib import Path

import click

from registry.cli.options import client_options
from registry.cli.tables import print_json
from registry.client.client import Client
from registry.client.export import export_safetensors
from registry.client.gathering import Wanted, use_weights
from registry.errors import InvalidRequestError


@click.command()
@click.argument("ref", metavar="REF")
@click.option(
    "-o", "--output", "folder", metavar="FOLDER", default=".", type=click.Path(), help="Where to write [default: here]."
)
@click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Compare the digests of what the cache holds already."
)
@click.option(
    "--cache/--no-cache",
    default=True,
    show_default=True,
    help="Keep the files in the cache, too. Without, they take half the room.",
)
@client_options
def download(*, client: Client, ref: str, folder: str, verify: bool, cache: bool, as_json: bool) -> None:
    """Write the very files of a version below a folder.

    TEAM/MODEL:3/FILE writes that file only. Prints the paths, one a line.
    """
    paths = [str(path) for path in client.download(ref, folder, verify=verify, cache=cache)]
    if as_json:
        print_json(paths)
        return
    for path in paths:
        click.echo(path)


@click.command()
@click.argument("ref", metavar="REF")
@click.option(
    "-o",
    "--output",
    metavar="FILE.safetensors",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.",
)
@click.option("--part", metavar="NAME", help="The state_dict inside a checkpoint.")
@click.option("--include", metavar="GLOB", multiple=True, help="Only tensors with such names ('layer4.*').")
@click.option("--exclude", metavar="GLOB", multiple=True, help="Not tensors with such names ('fc.*').")
@click.option(
    "--only",
    type=click.Choice(["weights"]),
    default="weights",
    show_default=True,
    help="Of a checkpoint, its state_dict: no optimizer, nothing else of it.",
)
@click.option("--expand", is_flag=True, help="Write more than four times the bytes that are stored.")
@client_options
def pull(
    *,
    client: Client,
    ref: str,
    output: Path,
    part: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    only: str,
    expand: bool,
    as_json: bool,
) -> None:
    """Write tensors of a version as a safetensors file.

    The state_dict of the version (or local file) REF, or some of it. No pickle is run, and PyTorch is needed only for
    tensors that are strided views. Only those tensors are fetched, and of them those that no file in the cache holds.
    Prints the path.
    """
    del only  # there is one choice, which is what this has always written
    if output.suffix != ".safetensors":
        raise InvalidRequestError(
            f"`pull` writes safetensors, which {str(output)!r} does not say: name it `{output.stem}.safetensors`, or "
            f"get the very file that was pushed with `weighbridge download {ref}`."
        )
    exported = use_weights(
        client.connection,
        ref,
        None,
        Wanted(part, include, exclude),
        lambda files: export_safetensors(
            files, output, part=part, include=include or None, exclude=exclude or None, expand=expand
        ),
    )
    for notice in exported.notices:
        click.echo(f"note: {notice}", err=True)
    if as_json:
        print_json({"path": str(output), "tensors": exported.tensor_count, "notices": exported.notices})
        return
    click.echo(f"Wrote {exported.tensor_count} tensors.", err=True)
    click.echo(str(output))
