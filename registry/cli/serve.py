"""`weighbridge serve` and `weighbridge admin`: the service, started from where this installation keeps it.

The wheel carries the server's packages inside `weighbridge/_server`, a checkout at its top. Either way the process
becomes `python -m api …`, so signals reach the service itself.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import NoReturn

import click

import registry
from registry.errors import ConfigurationError

_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True}


@click.command(context_settings=_PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> None:
    """Run the service (needs weighbridge[server])."""
    become_server(["serve", *arguments])


@click.command(context_settings=_PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def admin(arguments: tuple[str, ...]) -> None:
    """Migrate, back up, collect garbage (needs weighbridge[server])."""
    become_server(list(arguments))


def become_server(arguments: list[str]) -> NoReturn:
    """Replace this process by `python -m api` with these arguments.

    Raises:
        ConfigurationError: the server's packages are not installed.
    """
    folder = server_folder()
    missing = [name for name in ("fastapi", "sqlalchemy", "uvicorn") if importlib.util.find_spec(name) is None]
    if folder is None or missing:
        raise ConfigurationError(
            f"The server needs packages that are not installed here ({', '.join(missing) or 'api'}): "
            "`pip install 'weighbridge[server]'`."
        )
    # `-P` keeps the working folder off the path: a folder called `api` there is somebody else's.
    search = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-m", "api", *arguments], environment)  # noqa: S606 - our own interpreter


def server_folder() -> Path | None:
    """Return the folder that holds the packages `api` and `storage`, None when this installation has none."""
    home = Path(registry.__file__).parent.parent
    for folder in (home / "weighbridge" / "_server", home):
        if (folder / "api" / "__main__.py").is_file():
            return folder
    return None
