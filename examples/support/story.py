"""Telling a story in a terminal: chapters, what a user types, what comes back, and proofs that must hold."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

INDENT = "    "
WIDTH = 100


class ProofFailedError(Exception):
    """Something that the story claims is not so."""


def chapter(title: str) -> None:
    """Print the title of the next part."""
    print(f"\n{title}\n{'─' * len(title)}", flush=True)


def say(text: str) -> None:
    """Print a paragraph."""
    print(textwrap.fill(" ".join(text.split()), WIDTH), flush=True)


def show(text: str) -> None:
    """Print something that came back, indented."""
    print(textwrap.indent(text.rstrip(), INDENT), flush=True)


def code(line: str) -> None:
    """Print a line of Python that runs next."""
    show(f">>> {line}")


def prove(claim: str, holds: bool) -> None:  # noqa: FBT001 - the sentence and whether it is true
    """Print a claim that holds, or end the story."""
    if not holds:
        raise ProofFailedError(claim)
    print(f"  ✓ {claim}", flush=True)


def refused(attempt: Callable[[], object], expected: type[Exception]) -> Exception:
    """Return the error that an attempt must end in, or end the story."""
    try:
        attempt()
    except expected as error:
        show(textwrap.fill(f"{type(error).__name__}: {error}", WIDTH))
        return error
    raise ProofFailedError(f"{expected.__name__} was expected, and nothing was raised")


def shell(*command: str, cwd: Path, url: str, expected_status: int = 0, most_lines: int = 100) -> str:
    """Run a command as a user types it, print it and the beginning of what it prints, and return all of that."""
    show("$ " + " ".join(f"'{word}'" if "?" in word or "*" in word else word for word in command))
    folder = str(Path(sys.executable).parent)
    variables = {**os.environ, "WEIGHBRIDGE_URL": url, "PATH": os.pathsep.join([folder, os.environ.get("PATH", "")])}
    ran = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    lines = (ran.stdout + ran.stderr).splitlines()
    if lines:
        show("\n".join(lines[:most_lines]))
    if len(lines) > most_lines:
        show(f"… and {len(lines) - most_lines} more lines")
    if ran.returncode != expected_status:
        raise ProofFailedError(f"`{' '.join(command)}` ended with {ran.returncode} instead of {expected_status}")
    return ran.stdout
