"""Databases that are migrated already: a copy takes a moment, and migrating longer than most tests."""

import atexit
import secrets
import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from storage.metadata.migrate import upgrade


def migrated_sqlite(file: Path) -> str:
    """Put a migrated, empty database where no file is yet, of a registry of its own; return its URL."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_template(), file)
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE registry SET registry_id = ?", (secrets.token_hex(16),))
    return f"sqlite:///{file}"


def migrated_data(folder: Path) -> Path:
    """Return the data folder of an installation whose database is there and migrated."""
    migrated_sqlite(folder / "catalog.sqlite")
    return folder


@cache
def _template() -> Path:
    folder = tempfile.mkdtemp(prefix="weighbridge-template-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    upgrade(f"sqlite:///{folder}/catalog.sqlite")
    return Path(folder) / "catalog.sqlite"
