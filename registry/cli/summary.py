"""`weighbridge summary`: what the modules of a network weigh, and what its layers put out."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from registry.architecture import Architecture
from registry.cli.options import client_options
from registry.cli.tables import print_facts, print_json, print_table
from registry.cli.target import resolve_target
from registry.client.client import Client
from registry.client.glue import import_check, import_forward_summary
from registry.client.notebook import format_size
from registry.errors import InvalidRequestError
from registry.summary import ModuleSummary, summarise


@click.command()
@click.argument("what", metavar="FILE|REF|BUILDER")
@click.option("--arg", "arguments", metavar="KEY=VALUE", multiple=True, help="An argument of the builder, as JSON.")
@click.option("--trust-builder", is_flag=True, help="Call a builder of any library; it runs that code.")
@click.option("--part", metavar="NAME", help="The state_dict inside a checkpoint.")
@click.option("--modules", is_flag=True, help="List every module, with its digest.")
@click.option(
    "--input-size", metavar="C,H,W", help="Of one input: list the layers of a builder with what they put out."
)
@client_options
def summary(
    *,
    client: Client,
    what: str,
    arguments: tuple[str, ...],
    trust_builder: bool,
    part: str | None,
    modules: bool,
    input_size: str | None,
    as_json: bool,
) -> None:
    """Show what the modules of a network weigh: tensors, parameters, bytes, share.

    Of FILE and REF only headers and manifests are read. With --input-size, and for a builder such as
    torchvision.models:resnet18, shows the output shape of every layer, without any weights.
    """
    target = resolve_target(client, what, arguments, trust_builder=trust_builder, part=part)
    if input_size is not None:
        _print_layers(target.value, _sizes(input_size), as_json=as_json)
        return
    known = isinstance(target.value, Architecture)
    architecture: Architecture = target.value if known else import_check().architecture_of(target.value)
    found = summarise(architecture)
    if as_json:
        print_json([asdict(each) for each in found])
        return
    _print_modules(target.name, found, everything=modules)


def _print_modules(name: str, found: Sequence[ModuleSummary], *, everything: bool) -> None:
    root = found[0]
    print_facts(
        {
            "network": name,
            "tensors": f"{root.tensor_count:,}",
            "parameters": f"{root.parameter_count:,}",
            "size": format_size(root.size_bytes),
            "digest": root.digest,
        }
    )
    click.echo()
    head = ["MODULE", "TENSORS", "PARAMETERS", "BYTES", "SHARE"]
    rows = [
        (
            each.name or "(root)",
            f"{each.tensor_count:,}",
            f"{each.parameter_count:,}",
            format_size(each.size_bytes),
            f"{each.share:.1%}",
            *((each.digest,) if everything else ()),
        )
        for each in found
        if everything or (each.own and each.name) or (each.own and len(found) == 1)
    ]
    print_table(head + ["DIGEST"] * everything, rows, right=("TENSORS", "PARAMETERS", "BYTES", "SHARE"))


def _print_layers(module: Any, input_size: Sequence[int], *, as_json: bool) -> None:
    if isinstance(module, Architecture):
        raise InvalidRequestError(
            "--input-size needs a module to run: name a builder, as in torchvision.models:resnet18."
        )
    layers = import_forward_summary().summarise_forward(module, input_size)
    if as_json:
        print_json([asdict(each) for each in layers])
        return
    rows = [
        (
            f"{each.name} ({each.kind})",
            "x".join(map(str, each.output_shape)),
            f"{each.parameter_count:,}",
            f"{each.trainable_count:,}",
            format_size(each.size_bytes),
            format_size(each.forward_bytes),
        )
        for each in layers
    ]
    head = ("LAYER", "OUTPUT", "PARAMETERS", "TRAINABLE", "BYTES", "FORWARD")
    print_table(head, rows, right=("OUTPUT", "PARAMETERS", "TRAINABLE", "BYTES", "FORWARD"))
    forward = sum(each.forward_bytes for each in layers)
    click.echo(f"The outputs of all layers take {format_size(forward)} for one input.", err=True)


def _sizes(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not of the form 3,224,224.", param_hint="--input-size") from error
