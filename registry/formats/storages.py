"""torch's persistent ids of storages: what each names, and that all mentions of one key agree."""

import re

from registry.errors import MalformedArtifactError
from registry.formats.inert_names import DTYPE_BYTES, STORAGE_PAIRS, UNTYPED_STORAGE
from registry.formats.nodes import Global, Node, StorageRef, TupleNode

_KEY = re.compile(r"[0-9]{1,24}")
_JIT_KEY = re.compile(r"[0-9]{1,24}(?:\.storage)?")
_ZIP_ITEMS, _LEGACY_ITEMS = 5, 6


class StorageTable:
    """The storages that a pickle refers to, in the order of mention.

    Args:
        prefix: what sets the keys apart from those of other pickles of the same file.
        jit: whether TorchScript's own pickler wrote them, whose keys may end in `.storage`, which is then left out.

    Attributes:
        found: one `StorageRef` a key, without the legacy format's view.
        numbered: whether a key is written as a number; else it is a text.
    """

    def __init__(self, prefix: str = "", *, jit: bool = False) -> None:
        self._prefix = prefix
        self._pattern = _JIT_KEY if jit else _KEY
        self.found: dict[str, StorageRef] = {}
        self.numbered: dict[str, bool] = {}

    def own_key(self, key: str) -> str:
        """Return a key without the prefix."""
        return key.removeprefix(self._prefix)

    def add(self, identity: Node, *, legacy: bool = False) -> StorageRef:
        """Return what a persistent id names.

        Args:
            identity: `('storage', class, key, location, numel)`, and in the legacy format a view.
            legacy: whether it is of the legacy format.

        Raises:
            MalformedArtifactError: it is another thing, or contradicts an earlier id with the same key.
        """
        items: tuple[Node, ...] = identity.items if type(identity) is TupleNode else ()
        if (
            len(items) != (_LEGACY_ITEMS if legacy else _ZIP_ITEMS)
            or type(items[0]) is not str
            or items[0] != "storage"
        ):
            raise MalformedArtifactError("The file has a persistent id that is not one of a storage.")
        _, kind, key, location, numel = items[:_ZIP_ITEMS]
        dtype, untyped = _element_type(kind)
        text = str(key) if type(key) is int else key
        if type(text) is not str or not self._pattern.fullmatch(text):
            raise MalformedArtifactError("A storage has a key that is not a number.")
        is_number, key = type(key) is int, f"{self._prefix}{text.removesuffix('.storage')}"
        if self.numbered.setdefault(key, is_number) != is_number:
            raise MalformedArtifactError(f"Storage {key} is named by a number and by a text, which torch tells apart.")
        if type(location) is not str or type(numel) is not int or numel < 0:
            raise MalformedArtifactError(f"Storage {key} has no location or no valid size.")
        known = self.found.get(key)
        if known is None:
            known = self.found[key] = StorageRef(key, dtype, untyped, location, numel)
        elif (known.dtype, known.untyped, known.numel, known.location) != (dtype, untyped, numel, location):
            raise MalformedArtifactError(f"Storage {key} is described in two ways.")
        window = _view(items[_ZIP_ITEMS], known) if legacy else None
        return known if window is None else StorageRef(key, dtype, untyped, location, numel, window)


def storage_bytes(ref: StorageRef) -> int:
    """Return the size of a whole storage in bytes."""
    return ref.numel * DTYPE_BYTES[ref.dtype]


def _element_type(kind: Node) -> tuple[str, bool]:
    pair = kind.pair if type(kind) is Global else ("", "")
    if pair == UNTYPED_STORAGE:
        return "uint8", True
    if pair not in STORAGE_PAIRS:
        raise MalformedArtifactError("A storage has a class that is none of torch's.")
    return STORAGE_PAIRS[pair], False


def _view(node: Node, storage: StorageRef) -> tuple[str, int, int] | None:
    """Return `(view_key, offset, numel)` of a view that torch before 0.4 wrote, in elements."""
    if node is None:
        return None
    items = node.items if type(node) is TupleNode else ()
    if len(items) != 3 or type(items[1]) is not int or type(items[2]) is not int:  # noqa: PLR2004 - key, offset, numel
        raise MalformedArtifactError(f"Storage {storage.key} has a view that is not well formed.")
    key, offset, numel = items
    if offset < 0 or numel < 0 or offset + numel > storage.numel:
        raise MalformedArtifactError(f"Storage {storage.key} has a view that reaches beyond its end.")
    return str(key) if isinstance(key, str | int) else "", offset, numel
