"""`weighbridge check`: whether weights would load into a module, before anything is loaded."""

import click

from registry.cli.options import client_options
from registry.cli.tables import print_json
from registry.cli.target import resolve_target
from registry.client.check import CheckWishes, compare_weights, find_architecture
from registry.client.client import Client
from registry.compat.rename_map import Prefix

INCOMPATIBLE_EXIT_CODE = 7


@click.command()
@click.argument("ref", metavar="FILE|REF")
@click.option(
    "--target",
    "wanted",
    metavar="TARGET",
    required=True,
    help="What shall be filled: MODULE:CALLABLE, the JSON of an architecture, a file or a reference.",
)
@click.option("--arg", "arguments", metavar="KEY=VALUE", multiple=True, help="An argument of the callable, as JSON.")
@click.option("--trust-builder", is_flag=True, help="Call a callable of any library; it runs that code.")
@click.option("--part", metavar="NAME", help="The state_dict inside a checkpoint.")
@click.option("--prefix", metavar="STRIP,ADD", help="Replace a prefix of the names; ',' keeps them as they are.")
@click.option("--by-order", is_flag=True, help="Pair tensors by their place instead of their names.")
@click.option("--classifier", metavar="MODULE", multiple=True, help="A head of FILE|REF, where it is known.")
@client_options
def check(
    *,
    client: Client,
    ref: str,
    wanted: str,
    arguments: tuple[str, ...],
    trust_builder: bool,
    part: str | None,
    prefix: str | None,
    by_order: bool,
    classifier: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what loading FILE or REF into TARGET would do: what fits, what does not, what to do.

    Reads manifests and headers, no weights; nothing is loaded. Builders of torch, torchvision, timm, transformers and
    segmentation_models_pytorch are called as they are. Exit code 7 means that it will not load without being changed.

    \b
    weighbridge check vision/resnet50@prod --target torchvision.models:resnet50 --arg num_classes=10
    """  # noqa: D301 - \b keeps Click from wrapping the example
    source = find_architecture(client.connection, ref, part)
    target = resolve_target(client, wanted, arguments, trust_builder=trust_builder)
    wishes = CheckWishes(part, _prefix(prefix), "by-order" if by_order else None, classifier)
    report = compare_weights(source, target.value, wishes, target.builder)
    report.target = target.name
    # The target was built without values for this check only.
    report.arguments.pop("assign", None)
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(str(report))
    if not report.loads:
        click.get_current_context().exit(INCOMPATIBLE_EXIT_CODE)


def _prefix(text: str | None) -> Prefix:
    if text is None:
        return "auto"
    strip, sign, add = text.partition(",")
    if not sign:
        raise click.BadParameter(
            f"{text!r} is not of the form STRIP,ADD (one of them may be empty).", param_hint="--prefix"
        )
    return (strip, add) if strip or add else ""
