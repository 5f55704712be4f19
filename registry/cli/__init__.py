"""The command `weighbridge`: one small module a group of commands, each imported when it is run."""

from registry.cli.group import main

__all__ = ["main"]
