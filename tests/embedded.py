"""The app in the test's own process, what lies behind it, and something to push."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient

from storage.stores import Stores

API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Installation:
    """An app in this process, and what lies behind it."""

    app: FastAPI
    client: TestClient
    folder: Path

    @property
    def stores(self) -> Stores:
        """The app's stores."""
        return self.app.state.service.stores

    @contextmanager
    def away(self, model: str, path: str) -> Iterator[None]:
        """Take away the only object of a file of version 1 of a model, by its route, until the block ends."""
        team, name = model.split("/")[-2:]
        (extent,) = self.stores.catalog.get_artifact(team, name, "1", path).extents
        stored = self.folder / "blobs" / "objects" / extent.location
        hidden = stored.rename(stored.with_suffix(".away"))
        try:
            yield
        finally:
            hidden.rename(stored)

    def stored(self) -> dict[str, Any]:
        """Return everything that a push could leave behind: files, and rows of work that is not done."""
        files = sorted(
            str(path.relative_to(self.folder))
            for path in (self.folder / "blobs").rglob("*")
            # Records are written a little later, and are beside their place for a moment.
            if "records" not in path.parts and not path.name.startswith("record-") and path.is_file()
        )
        tables = ("objects", "write_intents", "doomed", "versions", "models")
        with self.stores.catalog.database.engine.connect() as connection:
            rows = {table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() for table in tables}  # noqa: S608 - constants
        return {"files": files, **rows}


def make_weights(seed: int = 0) -> bytes:
    """Return a state_dict as torch writes it."""
    generator = torch.Generator().manual_seed(seed)
    file = io.BytesIO()
    torch.save(
        {
            "conv.weight": torch.randn(64, 32, 3, 3, generator=generator),
            "conv.bias": torch.randn(64, generator=generator),
        },
        file,
    )
    return file.getvalue()


def make_small_weights(seed: int = 0) -> bytes:
    """Return a state_dict of one tensor, large enough to be reusable."""
    file = io.BytesIO()
    torch.save({"weight": torch.randn(32, 32, generator=torch.Generator().manual_seed(seed))}, file)
    return file.getvalue()
