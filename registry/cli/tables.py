"""How models, versions and aliases look on a terminal and in a pipe.

Everything shown was written by other people: control characters, which could drive the terminal, are replaced.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from pydantic import BaseModel
from rich.cells import cell_len, set_cell_size

from registry.cli.trust import print_trust
from registry.module_info import Builder, Origin, PretrainedConfig
from registry.schema import AliasInfo, AliasMove, ArtifactInfo, ModelInfo, VersionInfo
from registry.sizes import format_size
from registry.teams import Scope

MAX_METRIC_COLUMNS = 4
MAX_PATHS = 3
"""Artifacts that are named where the same is told of several."""
MAX_ARGUMENT = 60
"""Characters of a builder's argument that are shown; a transformers configuration has thousands."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


def print_json(value: BaseModel | Iterable[BaseModel] | Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]  # pyright: ignore[reportUnknownVariableType] - any JSON value
    return value


def clean(text: str) -> str:
    """Return the text on one line, without what could drive a terminal."""
    return _CONTROL.sub(" ", text).strip()


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print columns; on a terminal, lines are cut at its width.

    Args:
        head: the columns' names.
        rows: a text for each column.
        right: names of columns whose texts end at the same place, as numbers do.
    """
    lines = [list(head), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(cell_len(line[at]) for line in lines) for at in range(len(head))]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for number, line in enumerate(lines):
        cells = [
            " " * (width - cell_len(cell)) + cell if name in right else cell + " " * (width - cell_len(cell))
            for name, cell, width in zip(head, line, widths, strict=True)
        ]
        text = "  ".join(cells).rstrip()
        if limit is not None and cell_len(text) > limit:
            text = set_cell_size(text, limit - 1) + "…"
        click.echo(click.style(text, bold=True) if number == 0 else text)


def print_models(models: Sequence[ModelInfo]) -> None:
    """Print models as a table; who reads them, where that is not the team alone for some."""
    has_readers = any(each.visibility != "team" for each in models)
    has_damaged = any(each.damaged_versions for each in models)
    rows = [
        (
            each.full_name,
            "-" if each.latest is None else str(each.latest),
            str(each.version_count),
            day(each.updated_at),
            *((each.visibility,) if has_readers else ()),
            *((str(each.damaged_versions or "-"),) if has_damaged else ()),
            each.description,
        )
        for each in models
    ]
    optional = [*(["READ BY"] if has_readers else []), *(["DAMAGED"] if has_damaged else [])]
    head = ("MODEL", "LATEST", "VERSIONS", "UPDATED", *optional, "DESCRIPTION")
    print_table(head, rows, right=("LATEST", "VERSIONS", "DAMAGED"))


def print_versions(versions: Sequence[VersionInfo]) -> None:
    """Print versions as a table, with the metrics that most of them have."""
    counts: dict[str, int] = {}
    for each in versions:
        for name in each.annotations.metrics:
            counts[name] = counts.get(name, 0) + 1
    metrics = sorted(counts, key=lambda name: -counts[name])[:MAX_METRIC_COLUMNS]
    head = ("VERSION", "KIND", "TRUST", "SIZE", *(clean(name) for name in metrics), "PUSHED", "NOTES")
    rows = [
        (
            str(each.number),
            each.kind,
            each.trust,
            format_size(each.size_bytes),
            *(_number(each.annotations.metrics.get(name)) for name in metrics),
            day(each.created_at),
            _notes(each),
        )
        for each in versions
    ]
    print_table(head, rows, right=("VERSION", "SIZE", *metrics))


def print_version(version: VersionInfo, lineage: str = "") -> None:
    """Print one version with its artifacts; `lineage` says what it has in common with another one."""
    notes = version.annotations
    facts = {
        "version": version.reference,
        "kind": version.kind,
        "trust": version.trust,
        "size": format_size(version.size_bytes),
        "aliases": ", ".join(version.aliases),
        "metrics": "  ".join(f"{name}={value:g}" for name, value in notes.metrics.items()),
        "tags": "  ".join(f"{name}={value}" for name, value in notes.tags.items()),
        "base": version.base or "",
        "lineage": lineage,
        "builder": _call(version.builder) if version.builder else "",
        **(_module_facts(version.pretrained_cfg) if version.pretrained_cfg else {}),
        **(_origin_facts(version.origin) if version.origin else {}),
        "deprecated": notes.deprecated or "",
        "quarantine": f"since {day(version.quarantined_at)}; nothing of it is handed out"
        if version.quarantined_at
        else "",
        "damaged": f"{_name_paths(version.damaged)}; push the same again to mend it" if version.damaged else "",
        "pushed": f"{version.created_at:%Y-%m-%d %H:%M} UTC by {version.created_by}",
        "deleted": f"{version.deleted_at:%Y-%m-%d %H:%M} UTC" if version.deleted_at else "",
        "description": notes.description,
    }
    print_facts(facts)
    click.echo()
    rows = [
        (
            each.path,
            format_size(each.size_bytes),
            each.format or "-",
            each.trust,
            f"{each.tensor_count:,}" if each.tensor_count else "-",
            each.sha256.removeprefix("sha256:")[:12],
        )
        for each in version.artifacts
    ]
    print_table(("ARTIFACT", "SIZE", "FORMAT", "TRUST", "TENSORS", "SHA-256"), rows, right=("SIZE", "TENSORS"))
    print_artifact_trust(version)


def print_artifact_trust(version: VersionInfo, *, err: bool = False) -> bool:
    """Print why artifacts are not just tensors and what they refer to, once where the same is told of several.

    Returns whether there was something to print.
    """
    alike: dict[str, list[ArtifactInfo]] = {}
    for each in version.artifacts:
        if each.trust != "tensors" or each.reasons:
            told = each.model_dump_json(include={"trust", "reasons", "globals", "global_count"})
            alike.setdefault(told, []).append(each)
    for group in alike.values():
        named = _name_paths([each.path for each in group])
        click.echo(click.style(f"\n{named}", bold=True), err=err)
        first = group[0]
        print_trust(first.trust, first.reasons, first.globals, first.global_count, rest="its manifest has all", err=err)
    return bool(alike)


def _call(builder: Builder) -> str:
    given = ", ".join(f"{name}={_short(value)}" for name, value in builder.arguments.items())
    return f"{builder.callable}({given})"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_ARGUMENT else "…"


def _module_facts(config: PretrainedConfig) -> dict[str, str]:
    classes = "" if config.num_classes is None else f"{config.num_classes:,}"
    if config.class_names:
        shown = ", ".join(config.class_names[:3])
        classes += f" ({shown}{', …' if len(config.class_names) > 3 else ''})"  # noqa: PLR2004 - enough to know them by
    resized = "" if config.crop_pct is None else f"crop {config.crop_pct:.3g}"
    norms = "  ".join(
        f"{name} {'/'.join(f'{each:g}' for each in values)}"
        for name, values in (("mean", config.mean), ("std", config.std))
        if values
    )
    size = "x".join(map(str, config.input_size or ()))
    return {
        "classes": classes,
        "classifier": ", ".join(config.classifier),
        "first conv": ", ".join(config.first_conv),
        "input": "  ".join(filter(None, (size, config.interpolation, resized, norms))),
    }


def _origin_facts(origin: Origin) -> dict[str, str]:
    return {"origin": origin.source, "licence": origin.license or ""}


def print_facts(facts: dict[str, str]) -> None:
    """Print names and values, a line each; empty values are left out."""
    for name, value in facts.items():
        if value:
            click.echo(f"{click.style(f'{name:<12}', bold=True)} {clean(value)}")


def print_aliases(aliases: Sequence[AliasInfo]) -> None:
    """Print aliases as a table."""
    rows = [(each.name, str(each.version), day(each.updated_at), each.updated_by) for each in aliases]
    print_table(("ALIAS", "VERSION", "MOVED", "BY"), rows, right=("VERSION",))


def print_alias_moves(moves: Sequence[AliasMove]) -> None:
    """Print the moves of an alias as a table."""
    rows = [
        (
            f"{each.moved_at:%Y-%m-%d %H:%M:%S}",
            "-" if each.from_version is None else str(each.from_version),
            "-" if each.to_version is None else str(each.to_version),
            each.moved_by,
            each.reason,
        )
        for each in moves
    ]
    print_table(("WHEN (UTC)", "FROM", "TO", "BY", "REASON"), rows, right=("FROM", "TO"))


def _name_paths(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MAX_PATHS} more" if len(paths) > MAX_PATHS else ""
    return ", ".join(clean(each) for each in paths[:MAX_PATHS]) + more


def _notes(version: VersionInfo) -> str:
    notes = [f"@{alias}" for alias in version.aliases]
    if version.annotations.deprecated:
        notes.append(f"deprecated: {version.annotations.deprecated}")
    if version.quarantined_at:
        notes.append("in quarantine")
    if version.deleted_at:
        notes.append("deleted")
    if version.damaged:
        notes.append("damaged")
    return "  ".join(notes) or version.annotations.description


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def in_order(scopes: Iterable[Scope]) -> list[Scope]:
    """Return scopes from the harmless to the mighty."""
    return sorted(scopes, key=list(Scope).index)


def day(moment: datetime | None, missing: str = "-") -> str:
    """Return a moment's day in UTC."""
    if moment is None:
        return missing
    return f"{moment.astimezone(UTC):%Y-%m-%d}"
