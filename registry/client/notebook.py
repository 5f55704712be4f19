"""HTML for notebooks. Names, tags and descriptions are other people's text: everything is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from registry.formats.display import escape_name
from registry.formats.mentions import name_some
from registry.schema import ArtifactInfo, ModelInfo, VersionInfo
from registry.sizes import format_size

MAX_ROWS = 100
MAX_NAMES = 24
"""Classes and functions of an artifact; `weighbridge show` lists more."""


def version_html(version: VersionInfo) -> str:
    """Return one version as a table of its members."""
    notes = version.annotations
    rows: list[tuple[str, Any]] = [
        ("kind", version.kind),
        ("trust", version.trust),
        *_trust_rows(version.artifacts),
        ("size", format_size(version.size_bytes)),
        ("aliases", ", ".join(version.aliases)),
        ("metrics", _pairs(notes.metrics)),
        ("tags", _pairs(notes.tags)),
        ("base", version.base),
        ("deprecated", notes.deprecated),
        ("description", notes.description),
        ("artifacts", ", ".join(f"{each.path} ({format_size(each.size_bytes)})" for each in version.artifacts)),
        ("pushed", f"{version.created_at:%Y-%m-%d %H:%M} UTC by {version.created_by}"),
    ]
    return _card(version.reference, rows)


def _trust_rows(artifacts: Sequence[ArtifactInfo]) -> list[tuple[str, str]]:
    """Return, for each artifact that is not just tensors, why, and what it refers to outside torch.nn and torch.optim.

    What is told of several artifacts alike is told once.
    """
    rows: dict[tuple[str, str], list[str]] = {}
    for each in artifacts:
        if each.trust == "tensors" and not each.reasons:
            continue
        marked = [f"*{name}" for name in each.marked_globals if not name.startswith("__torch__.")]
        rows.setdefault((" ".join(each.reasons), name_some(marked, MAX_NAMES)), []).append(each.path)
    found: list[tuple[str, str]] = []
    for (reasons, listed), paths in rows.items():
        of = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        found += [(f"trust of {of}", escape_name(reasons)), ("refers to (* outside torch.nn and torch.optim)", listed)]
    return found


def model_html(model: ModelInfo) -> str:
    """Return one model as a table of its members."""
    rows: list[tuple[str, Any]] = [
        ("latest", model.latest),
        ("versions", model.version_count),
        ("tags", _pairs(model.tags)),
        ("description", model.description),
        ("read by", None if model.visibility == "team" else "everyone who has a token"),
        ("updated", f"{model.updated_at:%Y-%m-%d %H:%M} UTC"),
    ]
    return _card(model.full_name, rows)


def listing_html(items: Sequence[object]) -> str:
    """Return models or versions as one table, at most 100 rows of it."""
    versions = [item for item in items[:MAX_ROWS] if isinstance(item, VersionInfo)]
    models = [item for item in items[:MAX_ROWS] if isinstance(item, ModelInfo)]
    left_out = f"<p>and {len(items) - MAX_ROWS} more</p>" if len(items) > MAX_ROWS else ""
    if versions:
        metrics = list(dict.fromkeys(name for each in versions for name in each.annotations.metrics))
        head = ["version", "aliases", "kind", "trust", "size", *metrics]
        rows = [
            [each.reference, ", ".join(each.aliases), each.kind, each.trust, format_size(each.size_bytes)]
            + [_number(each.annotations.metrics.get(name)) for name in metrics]
            for each in versions
        ]
        return _table(head, rows) + left_out
    if models:
        rows = [[each.full_name, each.latest, each.version_count, each.description] for each in models]
        return _table(["model", "latest", "versions", "description"], rows) + left_out
    return f"<pre>{escape(repr(list(items)))}</pre>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _pairs(pairs: dict[str, Any]) -> str:
    return ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in pairs.items()
    )


def _card(title: str, rows: Iterable[tuple[str, Any]]) -> str:
    lines = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in rows
        if value not in {None, ""}
    )
    return f"<table><caption><b>{escape(title)}</b></caption>{lines}</table>"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape('' if cell is None else str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"
