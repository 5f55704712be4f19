"""How an object is cut into tiles, as its row keeps it: offset, length and 32 bytes of BLAKE3 a tile, deflated."""

import struct
import zlib
from collections.abc import Iterable

from registry.tiles import Tile

_TILE = struct.Struct("<QQ32s")
_ALGORITHM = "blake3:"


def encode_tiles(tiles: Iterable[Tile]) -> bytes:
    """Return tiles as a row keeps them, by their offset, each once."""
    packed = (
        _TILE.pack(tile.offset, tile.length, bytes.fromhex(tile.digest.removeprefix(_ALGORITHM)))
        for tile in sorted(set(tiles))
    )
    return zlib.compress(b"".join(packed))


def decode_tiles(data: bytes | None) -> list[Tile]:
    """Return the tiles that a row keeps, by their offset; none where it keeps none."""
    if data is None:
        return []
    return [
        Tile(offset, length, f"{_ALGORITHM}{digest.hex()}")
        for offset, length, digest in _TILE.iter_unpack(zlib.decompress(data))
    ]
