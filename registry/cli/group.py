"""The command group: which module holds which command, and what a failure looks like on a terminal and in JSON."""

import importlib
import json
import os
import sys
from typing import Any, NoReturn

import click

from registry.errors import (
    AccessError,
    AmbiguousPrefixError,
    ArtifactError,
    ConfigurationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    StateDictMismatchError,
    WeighbridgeError,
)

COMMANDS = {
    "inspect": "registry.cli.inspect:inspect",
    "summary": "registry.cli.summary:summary",
    "check": "registry.cli.check:check",
    "compatible": "registry.cli.compatible:compatible",
    "convert": "registry.cli.convert:convert",
    "push": "registry.cli.push:push",
    "import": "registry.cli.importing:import_",
    "export": "registry.cli.exporting:export",
    "pull": "registry.cli.pull:pull",
    "download": "registry.cli.pull:download",
    "list": "registry.cli.models:list_",
    "search": "registry.cli.models:search",
    "show": "registry.cli.models:show",
    "diff": "registry.cli.diff:diff",
    "versions": "registry.cli.models:versions",
    "best": "registry.cli.models:best",
    "annotate": "registry.cli.changes:annotate",
    "alias": "registry.cli.changes:alias",
    "delete": "registry.cli.changes:delete",
    "restore": "registry.cli.changes:restore",
    "purge": "registry.cli.purge:purge",
    "visibility": "registry.cli.changes:visibility",
    "login": "registry.cli.login:login",
    "logout": "registry.cli.login:logout",
    "whoami": "registry.cli.login:whoami",
    "token": "registry.cli.tokens:token",
    "team": "registry.cli.teams:team",
    "storage": "registry.cli.storage:storage",
    "user": "registry.cli.users:user",
    "quarantine": "registry.cli.quarantine:quarantine",
    "audit": "registry.cli.audit:audit",
    "cache": "registry.cli.cache:cache",
    "serve": "registry.cli.serve:serve",
    "admin": "registry.cli.serve:admin",
}
"""Command → module and function, in the order in which `--help` lists them."""

EXIT_CODES: tuple[tuple[type[WeighbridgeError], int], ...] = (
    (InvalidRequestError, 2),
    (ConfigurationError, 2),
    (AccessError, 3),
    (NotFoundError, 4),
    (ConflictError, 5),
    (ArtifactError, 6),
    (StateDictMismatchError, 7),
    (AmbiguousPrefixError, 7),
    (WeighbridgeError, 1),
)
"""What scripts gate on: 2 usage, 3 not allowed, 4 not found, 5 conflict, 6 unsafe or broken bytes, 7 incompatible."""
INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of `COMMANDS`."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, None when there is none of that name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="weighbridge", message="%(prog)s %(version)s")
def commands() -> None:
    """Share PyTorch models by name and version, and know what is in every file without running it."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with one of the documented exit codes."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        # Not standalone, click returns the code that a command ends with by `Context.exit`.
        code: object = commands.main(arguments, prog_name="weighbridge", standalone_mode=False)
        sys.stdout.flush()
    except WeighbridgeError as error:
        report(error, as_json="--json" in arguments)
        sys.exit(exit_code(error))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Stopped.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): end quietly, also when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def exit_code(error: WeighbridgeError) -> int:
    """Return the exit code that an error's class stands for."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def report(error: WeighbridgeError, *, as_json: bool) -> None:
    """Say an error: a sentence on stderr, or its problem document on stdout."""
    if as_json:
        problem: dict[str, Any] = {"code": error.code, "detail": error.detail, **error.extra}
        if error.request_id:
            problem["request_id"] = error.request_id
        click.echo(json.dumps(problem, default=str))
        return
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.detail}", err=True)
    if isinstance(error, ArtifactError):
        from registry.cli.trust import print_problem

        print_problem(error.extra)
    if error.request_id:
        click.echo(f"(request {error.request_id})", err=True)
