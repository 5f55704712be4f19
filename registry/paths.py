"""Paths as people write them."""

import os
from pathlib import Path


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Return a path with `~` and `~name` written out; the home of nobody stays as it is, and is found missing."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # what pathlib raises for a name that no user has
        return Path(path)
