"""Tables of figures for people, and the same as JSON."""

import dataclasses
import statistics
from collections.abc import Iterator
from typing import Any

from transfers.rounds import Aim, Figure, Table


def as_text(table: Table) -> str:
    """Return a table as Markdown: a line a peer, our own lines with what they are held to."""
    lines = [f"\n### {table.title}, {table.place} (`{table.row}`)\n"]
    lines += ["| who | median | least to most | rate | processors | compared, and the aims |", "| --- |" + " --- |" * 5]
    lines += ["| " + " | ".join(_cells(table, figure)) + " |" for figure in table.figures]
    return "\n".join(lines)


def as_json(table: Table) -> dict[str, Any]:
    """Return a table with all values of all rounds."""
    document = dataclasses.asdict(table)
    for told, figure in zip(document["figures"], table.figures, strict=True):
        told["median"] = figure.median
        told["aims"] = [dataclasses.asdict(aim) | {"reached": _reached(table, figure, aim)} for aim in figure.aims]
    return document


def _cells(table: Table, figure: Figure) -> Iterator[str]:
    yield figure.who
    yield f"{figure.median:,.2f} {figure.unit}"
    yield f"{min(figure.values):,.2f} to {max(figure.values):,.2f}"
    is_timed = figure.unit == "s" and figure.size_bytes
    yield f"{figure.size_bytes / figure.median / 1e9:.2f} GB/s" if is_timed and figure.size_bytes else ""
    yield _processors(figure)
    yield "; ".join(_verdict(table, figure, aim) for aim in figure.aims)


def _processors(figure: Figure) -> str:
    if not figure.processor_seconds:
        return ""
    seconds = statistics.median(figure.processor_seconds)
    return f"{seconds:.2f} s" if figure.unit == "s" else f"{seconds * 1e3:.2f} ms each"


def _verdict(table: Table, figure: Figure, aim: Aim) -> str:
    value = _compared(table, figure, aim)
    more = figure.unit == "requests/s"
    whom = "" if aim.against is None else f" x {aim.against}"
    unit = f" {figure.unit}" if aim.against is None else ""
    bounds = [f"must {'≥' if more else '≤'} {aim.must:g}{unit}"]
    bounds += [] if aim.goal is None else [f"goal {aim.goal:g}{unit}"]
    return f"{value:,.2f}{unit}{whom} ({', '.join(bounds)}): {_reached(table, figure, aim)}"


def _reached(table: Table, figure: Figure, aim: Aim) -> str:
    sign = -1 if figure.unit == "requests/s" else 1
    value = _compared(table, figure, aim) * sign
    if value > aim.must * sign:
        return "missed"
    return "must" if aim.goal is None or value > aim.goal * sign else "goal"


def _compared(table: Table, figure: Figure, aim: Aim) -> float:
    if aim.against is None:
        return figure.median
    return figure.median / next(each.median for each in table.figures if each.who == aim.against)
