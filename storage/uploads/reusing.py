"""What of the files of a push is stored already: claims are checked for their form, and believed only once verified."""

from collections.abc import Mapping, Sequence

from registry.errors import InvalidRequestError
from registry.names import check_path
from registry.schema import VersionCreate
from registry.teams import Scope
from registry.tiles import MIN_REUSABLE_BYTES, Tile
from registry.uploads import MAX_TILES, UploadCreate
from storage.access import Caller
from storage.admission import sight_of
from storage.metadata.records import PlannedExtent
from storage.stores import Stores
from storage.uploads.reuse import plan_extents


def check_tiles(create: UploadCreate, sizes: Mapping[str, int]) -> dict[str, list[Tile]]:
    """Return the tiles of files as they are claimed, by path.

    Raises:
        InvalidRequestError: they are too many or do not cover a file exactly.
    """
    if sum(len(claimed) for claimed in create.tiles.values()) > MAX_TILES:
        raise InvalidRequestError(f"An upload has at most {MAX_TILES} tiles. Make small ones one.")
    return {check_path(path): _check(path, create, sizes) for path in create.tiles}


def _check(path: str, create: UploadCreate, sizes: Mapping[str, int]) -> list[Tile]:
    size_bytes = sizes.get(check_path(path))
    if size_bytes is None:
        raise InvalidRequestError(f"There are tiles of {path!r}, which is not announced under `artifacts`.")
    tiles: list[Tile] = []
    position = 0
    for length, digest in create.tiles[path]:
        tiles.append(Tile(position, length, f"blake3:{digest.removeprefix('blake3:')}"))
        position += length
    if position != size_bytes:
        raise InvalidRequestError(
            f"The tiles of {path!r} make {position} bytes, announced are {size_bytes}: they cover the file exactly."
        )
    return tiles


def find_claimed(metadata: VersionCreate, tiles: Mapping[str, Sequence[Tile]]) -> dict[str, Sequence[Tile]]:
    """Return the tiles of files of which no digest is announced: what comes must have these."""
    named = {check_path(path) for path, each in metadata.artifacts.items() if each.sha256 or each.blake3}
    return {path: each for path, each in tiles.items() if path not in named}


def find_extents(
    stores: Stores, caller: Caller, team: str, tiles: Mapping[str, Sequence[Tile]]
) -> dict[str, tuple[PlannedExtent, ...] | None]:
    """Return how files will lie of which some is stored; None for those that had better be sent whole.

    Only what the team has, and the caller may read, is looked for: what others have makes no difference.
    """
    lengths = {
        tile.digest: tile.length for each in tiles.values() for tile in each if tile.length >= MIN_REUSABLE_BYTES
    }
    if not lengths or Scope.READ not in caller.scopes:
        return dict.fromkeys(tiles)
    known = stores.catalog.find_reusable(team, lengths, sight_of(caller))
    plans: dict[str, tuple[PlannedExtent, ...] | None] = {}
    for path, each in tiles.items():
        extents = plan_extents(each, known, sum(tile.length for tile in each))
        plans[path] = None if extents is None else tuple(extents)
    return plans
