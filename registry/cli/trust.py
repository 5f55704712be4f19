"""Why a file is trusted or not, as a person reads it: `inspect`, `show`, `push` and refusals say it in this one way."""

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, cast

import click

from registry.formats.display import escape_name
from registry.formats.mentions import is_marked, list_globals

TRUST_COLOURS = {"tensors": "green", "code": "yellow", "unsafe": "red"}
_MEANING = {
    "tensors": "nothing but tensors and plain values",
    "code": "opening it as a live object runs code",
    "unsafe": "loading it would do harm",
}
_SHOWN = 24
"""Names on a terminal; a pipe gets all."""
_OWN_CLASSES = "__torch__."
"""TorchScript's classes are in the file itself: its reasons say so, and each of its modules has one."""
_PIPE_WIDTH = 1 << 20
_INDENT = "  "


def print_trust(
    trust: str | None,
    reasons: Sequence[str],
    names: Sequence[str],
    count: int = 0,
    *,
    rest: str = "",
    err: bool = False,
) -> None:
    """Print the trust of a file, the reasons for it, and what it refers to, a name a line.

    Names that belong neither to `torch.nn` nor to `torch.optim` are marked with a `*`.

    Args:
        trust: `tensors`, `code` or `unsafe`; None to leave it out.
        reasons: sentences.
        names: the classes and functions beyond those that weights need.
        count: of all names, where `names` are only the first.
        rest: where those are that are not shown.
        err: to standard error.
    """
    stream = sys.stderr if err else sys.stdout
    width = shutil.get_terminal_size().columns if stream.isatty() else _PIPE_WIDTH
    if trust is not None:
        line = f"trust: {trust} ({_MEANING.get(trust, 'of a kind that this release does not know')})"
        click.secho(_wrapped(line, width), fg=TRUST_COLOURS.get(trust), err=err)
    for reason in reasons:
        click.echo(_wrapped(f"- {escape_name(reason)}", width, "  "), err=err)
    for line in _name_lines(names, max(count, len(names)), None if width == _PIPE_WIDTH else _SHOWN, rest):
        click.echo(_wrapped(line, width, "    "), err=err)


def print_problem(extra: Mapping[str, Any]) -> None:
    """Print, to standard error, what a refusal says of the file: its reasons and what it refers to."""
    count = extra.get("global_count")
    names = _texts(extra.get("globals"))
    print_trust(None, _texts(extra.get("reasons")), names, count if isinstance(count, int) else 0, err=True)


def print_sources(of: str, sources: Mapping[str, str]) -> None:
    """Print the source of classes that a file carries, as it stands there; where there is none, say so."""
    if not sources:
        click.echo(f"{escape_name(of)} carries no source of classes.", err=True)
    for name, text in sources.items():
        click.echo(f"# {escape_name(name)}, as {escape_name(of)} carries it; nothing says that this is what would run")
        lines = (escape_name(line.replace("\t", "    ")) for line in text.split("\n"))
        click.echo("\n".join(lines).rstrip() + "\n")


def _name_lines(names: Sequence[str], count: int, limit: int | None, rest: str) -> list[str]:
    own = [name for name in names if name.startswith(_OWN_CLASSES)]
    others = sorted(set(names).difference(own))
    shown = others if limit is None else list_globals(others, limit)
    if not others:
        return []
    legend = " (* outside torch.nn and torch.optim)" if any(map(is_marked, others)) else ""
    lines = [f"refers to{legend}:", *(f"{'*' if is_marked(name) else ' '} {escape_name(name)}" for name in shown)]
    left = count - len(own) - len(shown)
    return [*lines, f"  … and {left:,} more{f'; {rest}' if rest else ''}"] if left > 0 else lines


def _wrapped(text: str, width: int, hanging: str = "") -> str:
    """Return the text on indented lines that fit the terminal; a name that is too long for a line is broken."""
    wrapper = textwrap.TextWrapper(
        width=max(width, 20),
        initial_indent=_INDENT,
        subsequent_indent=_INDENT + hanging,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )
    return "\n".join(wrapper.wrap(text))


def _texts(value: object) -> list[str]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [each for each in items if isinstance(each, str)]
