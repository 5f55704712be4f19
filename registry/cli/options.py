"""Options that the commands share, and the client that they make."""

import functools
import sys
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from registry.client.client import Client

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def client_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--url`, `--token`, `--team` and `--json`; the command gets a `client` and `as_json`."""

    @_way_options
    @click.option("--team", metavar="TEAM", help="Of bare names [env: WEIGHBRIDGE_TEAM].")
    @as_json_option
    @functools.wraps(command)
    def run(*, url: str | None, token: str | None, team: str | None, **rest: Any) -> None:
        with spoken_warnings(), Client(url, token, team) as client:
            command(client=client, **rest)

    return run


def service_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--url`, `--token` and `--json`, for commands without references; they get a `client` and `as_json`."""

    @_way_options
    @as_json_option
    @functools.wraps(command)
    def run(*, url: str | None, token: str | None, **rest: Any) -> None:
        with spoken_warnings(), Client(url, token) as client:
            command(client=client, **rest)

    return run


def _way_options(command: CommandT) -> CommandT:
    command = click.option("--token", metavar="TOKEN", help="Your token [env: WEIGHBRIDGE_TOKEN].")(command)
    return click.option("--url", metavar="URL", help="The service [env: WEIGHBRIDGE_URL].")(command)


@contextmanager
def spoken_warnings() -> Generator[None]:
    """Say Python's warnings as sentences on stderr, without a source line that nobody here wrote."""

    def say(message: Warning | str, *_: object, **__: object) -> None:
        click.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = say
        yield


def parse_pairs(pairs: Iterable[str], option: str) -> dict[str, str]:
    """Return `KEY=VALUE` texts as a dict.

    Raises:
        click.BadParameter: one has no `=`.
    """
    parsed: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise click.BadParameter(f"{pair!r} is not of the form KEY=VALUE.", param_hint=option)
        parsed[key] = value
    return parsed


def parse_metrics(pairs: Iterable[str]) -> dict[str, float]:
    """Return `NAME=NUMBER` texts as a dict.

    Raises:
        click.BadParameter: one is none.
    """
    parsed: dict[str, float] = {}
    for name, text in parse_pairs(pairs, "--metric").items():
        try:
            parsed[name] = float(text)
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is no number.", param_hint="--metric") from error
    return parsed


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed, unless `--yes` was given.

    Raises:
        click.UsageError: nobody is there to be asked.
        click.Abort: the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody is there to be asked: say --yes.")
    click.confirm(question, abort=True, err=True)
