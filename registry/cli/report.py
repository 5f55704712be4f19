"""An inspected weight file as a person reads it: what it is, why it is trusted or not, and a table by module."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from registry.cli.inspect import Inspected, count_elements, element_count, untied
from registry.cli.output import shorten
from registry.cli.trust import print_trust
from registry.formats.display import escape_name
from registry.sizes import format_size

if TYPE_CHECKING:
    from registry.formats.inspection import TensorRecord

_PIPE_WIDTH = 10_000
"""In a pipe nothing is cut: what reads it has no edge."""
_GAP = 2
_SHORTEST_NAME = 16
_TIMES = "\N{MULTIPLICATION SIGN}"
_SHOWN_SCALARS = 16
_SHOWN_NAMES = 24
_SHOWN_ENTRIES = 24
_VALUE_CHARACTERS = 60
Cells: TypeAlias = tuple[str, str, str, str, str]
_QUIET_ROLES = frozenset({"parameter", "unknown", "optimizer"})


def print_report(inspected: Inspected) -> None:
    """Print one inspected file, or one sharded state_dict, to standard output."""
    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else _PIPE_WIDTH, soft_wrap=False)
    _print_head(console, inspected)
    _print_scalars(console, inspected.inspections[0].scalars)
    _print_entries(console, inspected)
    if inspected.tensors:
        console.print(_tensor_table(inspected.tensors, console.width))
    else:
        console.print()


def _print_head(console: Console, inspected: Inspected) -> None:
    first, tensors = inspected.inspections[0], inspected.tensors
    console.print(Text(escape_name(str(inspected.path)), style="bold"), no_wrap=True, overflow="fold")
    what = [first.kind, first.format, format_size(inspected.size)]
    if len(inspected.files) > 1:
        what.append(f"{len(inspected.files)} shards")
    if tensors:
        stored = sum(storage.nbytes for each in inspected.inspections for storage in each.storages)
        what += [f"{len(tensors):,} tensors", f"{count_elements(tensors):,} elements in {format_size(stored)}"]
    _print_line(console, Text(" · ".join(what)))
    print_trust(
        inspected.trust, inspected.all_of("reasons"), inspected.all_of("foreign_globals"), rest="--json has all"
    )
    _print_names(console, "parts", first.parts)
    _print_names(console, "unknown records", [name for each in inspected.inspections for name in each.unknown_records])


def _print_line(console: Console, text: Text) -> None:
    console.print(Padding(text, (0, 0, 0, 2), expand=False))


def _print_names(console: Console, title: str, names: Sequence[str]) -> None:
    shown = [escape_name(name) for name in dict.fromkeys(names)]
    if shown:
        more = f" and {len(shown) - _SHOWN_NAMES} more" if len(shown) > _SHOWN_NAMES else ""
        text = Text.assemble((f"{title}: ", "bold"), ", ".join(shown[:_SHOWN_NAMES]), more)
        _print_line(console, text)


def _print_scalars(console: Console, scalars: dict[str, Any]) -> None:
    """Print the values nearest the root: `epoch` says more than a counter six dictionaries down."""
    if not scalars:
        return
    nearest = sorted(scalars.items(), key=lambda item: item[0].count("."))[:_SHOWN_SCALARS]
    table = _table("SCALAR", "VALUE")
    for name, value in nearest:
        table.add_row(Text(shorten(escape_name(name), _VALUE_CHARACTERS)), Text(_value(value)))
    console.print(table)
    if len(scalars) > len(nearest):
        _print_line(console, Text(f"… and {len(scalars) - len(nearest)} more scalars; --json shows all", style="dim"))


def _print_entries(console: Console, inspected: Inspected) -> None:
    entries = [entry for each in inspected.inspections for entry in each.entries]
    if not entries:
        return
    table = _table("ENTRY", "TYPE", "VALUE")
    for entry in entries[:_SHOWN_ENTRIES]:
        value = "" if entry.value is None else _value(entry.value)
        name, kind = shorten(escape_name(entry.name), _VALUE_CHARACTERS), escape_name(entry.type_name)
        table.add_row(Text(name), Text(kind), Text(value))
    console.print(table)
    if len(entries) > _SHOWN_ENTRIES:
        _print_line(console, Text(f"… and {len(entries) - _SHOWN_ENTRIES} more entries; --json shows all", style="dim"))


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:,}" if type(value) is int else repr(value)
    return shorten(escape_name(text), _VALUE_CHARACTERS)


def _table(*names: str) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    return table


def _tensor_table(tensors: Sequence["TensorRecord"], width: int) -> Table:
    """Return a line a module with its sums, and below it a line a tensor. What is tied counts where it comes first.

    Where the terminal is narrow, names give way and numbers do not.
    """
    counted = untied(tensors)
    total = sum(tensor.nbytes for tensor in counted.values())
    rows: list[tuple[str, str, Cells]] = []
    for module, members in _by_module(tensors).items():
        if module:
            rows.append(("bold", module, ("", "", *_sums([each for each in members if id(each) in counted], total))))
        for each in members:
            name = each.name[len(module) + 1 :] if module else each.name
            rows.append(("", f"  {name}{_role(each)}", _tensor_cells(each, tied=id(each) not in counted)))
    summed = (f"{len(tensors):,} tensors", _dtypes(counted.values()), *_sums(counted.values(), total))
    head = ("SHAPE", "DTYPE", "PARAMETERS", "BYTES", "SHARE")
    cells = [head, summed, *(cells for _, _, cells in rows)]
    taken = sum(max(len(line[at]) for line in cells) + _GAP for at in range(len(head)))
    room = max(_SHORTEST_NAME, width - taken - _GAP)
    table = _table("MODULE / TENSOR", *head)
    table.show_footer = True
    for column, footer in zip(table.columns, ("total", *summed), strict=True):
        column.footer = Text(footer, style="bold")
        column.justify = "right" if column.header in head[2:] else "left"
    for style, name, line in rows:
        table.add_row(Text(shorten(escape_name(name), room), style=style), *line)
    return table


def _role(tensor: "TensorRecord") -> str:
    return "" if tensor.role in _QUIET_ROLES else f" ({tensor.role.replace('_', ' ')})"


def _tensor_cells(tensor: "TensorRecord", *, tied: bool) -> Cells:
    shape = _TIMES.join(map(str, tensor.shape)) or "scalar"
    dtype = tensor.dtype if tensor.layout == "strided" else f"{tensor.dtype} {tensor.layout}"
    if tied:
        return shape, dtype, "tied", "", ""
    return shape, dtype, f"{element_count(tensor):,}", format_size(tensor.nbytes), ""


def _by_module(tensors: Iterable["TensorRecord"]) -> dict[str, list["TensorRecord"]]:
    modules: dict[str, list[TensorRecord]] = {}
    for tensor in tensors:
        modules.setdefault(tensor.name.rpartition(".")[0], []).append(tensor)
    return modules


def _sums(tensors: Iterable["TensorRecord"], total: int) -> tuple[str, str, str]:
    """Return elements, bytes and share of the total as texts."""
    listed = list(tensors)
    nbytes = sum(each.nbytes for each in listed)
    share = f"{nbytes / total:.1%}" if total else ""
    return f"{sum(map(element_count, listed)):,}", format_size(nbytes), share


def _dtypes(tensors: Iterable["TensorRecord"]) -> str:
    found = sorted({tensor.dtype for tensor in tensors})
    return found[0] if len(found) == 1 else f"{len(found)} dtypes"
