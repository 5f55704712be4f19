"""`weighbridge convert`: the weights out of any file, as safetensors, with nothing of it run."""

from pathlib import Path

import click

from registry.cli.options import as_json_option
from registry.cli.tables import print_json
from registry.client.export import Tied, export_safetensors
from registry.client.local import find_weights
from registry.errors import InvalidRequestError, NotFoundError


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUT.safetensors", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--part", metavar="NAME", help="The state_dict inside a checkpoint.")
@click.option("--include", metavar="GLOB", multiple=True, help="Only tensors with such names ('layer4.*').")
@click.option("--exclude", metavar="GLOB", multiple=True, help="Not tensors with such names ('fc.*').")
@click.option(
    "--tied",
    type=click.Choice(["copy", "once"]),
    default="copy",
    show_default=True,
    help="Tied tensors: a copy under each name, or once, as safetensors' `load_model` takes them.",
)
@click.option("--expand", is_flag=True, help="Write more than four times the bytes that are stored.")
@as_json_option
def convert(
    *,
    source: Path,
    output: Path,
    part: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    tied: Tied,
    expand: bool,
    as_json: bool,
) -> None:
    """Write the state_dict of a local file or folder IN as a safetensors file.

    IN may be a checkpoint, a full pickled module, TorchScript, an exported program or a sharded folder: its tensors
    come out without unpickling, and without asking a service. PyTorch is needed only for tensors that do not lie in IN
    as plain bytes. Prints the path.
    """
    if output.suffix != ".safetensors":
        raise InvalidRequestError(f"`convert` writes safetensors: name it `{output.stem}.safetensors`.")
    if not source.exists():
        raise NotFoundError(
            f"There is no file or folder {str(source)!r}. The weights of a version come with `weighbridge pull`."
        )
    exported = export_safetensors(
        find_weights(source),
        output,
        part=part,
        include=include or None,
        exclude=exclude or None,
        tied=tied,
        expand=expand,
    )
    for notice in exported.notices:
        click.echo(f"note: {notice}", err=True)
    if as_json:
        print_json({"path": str(output), "tensors": exported.tensor_count, "notices": exported.notices})
        return
    click.echo(f"Wrote {exported.tensor_count} tensors.", err=True)
    click.echo(str(output))
