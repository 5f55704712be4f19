"""How the findings of `fsck` are told, to people and as JSON."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict

import click

from storage.checking.findings import Finding


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
