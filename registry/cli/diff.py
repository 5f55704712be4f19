"""`weighbridge diff`: what became of the tensors between two versions or files."""

import click

from registry.cli.options import client_options
from registry.cli.tables import print_facts, print_json, print_table
from registry.client.client import Client
from registry.formats.display import escape_name
from registry.lineage.differences import CHANGES
from registry.lineage.documents import DEFAULT_LISTED, MAX_LISTED, TensorForm, VersionDiff
from registry.sizes import format_share, format_size

_QUIET = "equal"


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--part", metavar="NAME", help="The state_dict inside OLD, where that is a checkpoint.")
@click.option("--new-part", metavar="NAME", help="The same of NEW.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(0, MAX_LISTED),
    default=DEFAULT_LISTED,
    show_default=True,
    help="Tensors to list of each kind.",
)
@client_options
def diff(
    *, client: Client, old: str, new: str, part: str | None, new_part: str | None, limit: int, as_json: bool
) -> None:
    """Show which tensors came, went or changed between OLD and NEW.

    Both are references or local files, of whatever model and format. Versions are compared by digests: no weights are
    fetched. What digests do not tell, as of compressed files, is `unknown` and never `equal`.
    """
    found = client.diff(old, new, part=part, new_part=new_part, limit=limit)
    if as_json:
        print_json(found)
        return
    _print_summary(found)
    rows = [
        (change, escape_name(each.name), _shown(each.old), _shown(each.new))
        for change in CHANGES
        if change != _QUIET
        for each in found.group(change).tensors
    ]
    if rows:
        click.echo()
        print_table(("WHAT", "TENSOR", "OLD", "NEW"), rows)
    more = {change: found.group(change).more for change in CHANGES if change != _QUIET}
    for change, count in more.items():
        if count:
            click.echo(f"… and {count:,} more {change}: say --limit, or --json.", err=True)


def _print_summary(found: VersionDiff) -> None:
    share = format_share(found.shared_bytes, found.new_bytes)
    print_facts(
        {
            "old": f"{found.old} ({format_size(found.old_bytes)})",
            "new": f"{found.new} ({format_size(found.new_bytes)})",
            "shared": f"{format_size(found.shared_bytes)}, {share} of the new",
        }
    )
    for change in CHANGES:
        group = found.group(change)
        if group.count:
            print_facts({change: f"{group.count:,} ({format_size(group.size_bytes)})"})


def _shown(form: TensorForm | None) -> str:
    if form is None:
        return "-"
    kind = form.dtype if form.form == "strided" else f"{form.dtype} {form.form}"
    return f"{'x'.join(map(str, form.shape)) or 'scalar'} {kind}"
