"""What the client hands out: the wire shapes, with a face in notebooks."""

from collections.abc import Iterable
from typing import TypeVar

from registry.client import notebook
from registry.schema import ModelInfo, VersionInfo

ItemT = TypeVar("ItemT")


class Model(ModelInfo):
    """A `ModelInfo` that notebooks show as a table."""

    def _repr_html_(self) -> str:
        return notebook.model_html(self)


class Version(VersionInfo):
    """A `VersionInfo` that notebooks show as a table."""

    def _repr_html_(self) -> str:
        return notebook.version_html(self)


class Listing(list[ItemT]):
    """A list that notebooks show as a table."""

    def __init__(self, items: Iterable[ItemT] = ()) -> None:
        super().__init__(items)

    def _repr_html_(self) -> str:
        return notebook.listing_html(self)
