"""How the findings of `fsck` are told, to people and as JSON."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict

import click

from storage.checking.findings import Finding
from storage.rebuild import Rebuilt

_LOST = (
    "Users, tokens, members, rules and quotas of teams, overrides, the audit, the history of aliases and annotations, "
    "and what is known of purged versions are in no record: a backup has them."
)


def print_findings(findings: Iterable[Finding], *, as_json: bool) -> bool:
    """Print findings as they come, then how many there were of each kind; return whether all is well."""
    counts: Counter[str] = Counter()
    mended = 0
    for finding in findings:
        counts[finding.kind] += 1
        mended += finding.is_mended
        click.echo(_as_json(finding) if as_json else _as_text(finding))
    if as_json:
        click.echo(json.dumps({"counts": counts, "total": counts.total(), "mended": mended}))
    elif counts:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        click.echo(f"{counts.total()} findings, {mended} mended: {told}", err=True)
    else:
        click.echo("All is well.", err=True)
    return counts.total() == mended


def print_rebuilt(rebuilt: Iterable[Rebuilt], *, as_json: bool) -> bool:
    """Print what became of each record; return whether none was left out."""
    versions = left_out = 0
    for each in rebuilt:
        left_out += each.problem is not None
        versions += each.problem is None
        if as_json:
            click.echo(json.dumps(asdict(each)))
        elif each.problem is not None:
            click.echo(f"left out  {each.name}: {each.problem}")
        else:
            told = f": {'; '.join(each.differences)}" if each.differences else ""
            click.echo(f"rebuilt   {each.name}{told}")
    if as_json:
        click.echo(json.dumps({"rebuilt": versions, "left_out": left_out}))
    else:
        click.echo(f"{versions} versions rebuilt, {left_out} records left out. {_LOST}", err=True)
    return not left_out


def _as_json(finding: Finding) -> str:
    return json.dumps(asdict(finding))


def _as_text(finding: Finding) -> str:
    lines = [f"{finding.kind}  {finding.where}: {finding.detail}"]
    if finding.repair is not None:
        lines[0] += f" ({finding.repair})"
    lines += [f"    {ascii(each)[1:-1]}" for each in finding.versions if each != finding.where]
    if finding.more_versions:
        lines.append(f"    and {finding.more_versions} more")
    return "\n".join(lines)
