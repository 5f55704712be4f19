"""What the client hands out: the wire shapes, with a face in notebooks."""

from collections.abc import Iterable
from typing import Self, TypeVar

from pydantic import model_validator

from registry.client import notebook
from registry.digest import is_digest
from registry.names import is_name
from registry.schema import ModelInfo, VersionInfo

ItemT = TypeVar("ItemT")


class Model(ModelInfo):
    """A `ModelInfo` that notebooks show as a table."""

    def _repr_html_(self) -> str:
        return notebook.model_html(self)


class Version(VersionInfo):
    """A `VersionInfo` that notebooks show as a table, of a service that need not be trusted."""

    @model_validator(mode="after")
    def _check_what_becomes_paths(self) -> Self:
        """Refuse names and digests that are none: files of the cache are named by them."""
        digests = [("sha256", each.sha256) for each in self.artifacts]
        digests += [("blake3", each.blake3) for each in self.artifacts]
        are_digests = all(is_digest(digest) and digest.startswith(algorithm) for algorithm, digest in digests)
        if not are_digests or not is_name(self.team) or not is_name(self.model):
            raise ValueError("a name or a digest that no service gives")
        return self

    def _repr_html_(self) -> str:
        return notebook.version_html(self)


class Listing(list[ItemT]):
    """A list that notebooks show as a table."""

    def __init__(self, items: Iterable[ItemT] = ()) -> None:
        super().__init__(items)

    def _repr_html_(self) -> str:
        return notebook.listing_html(self)
