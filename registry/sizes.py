"""Sizes in bytes as people read them."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def format_size(size_bytes: int) -> str:
    """Return a size for people: `97.8 MiB`."""
    size, unit = float(size_bytes), 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{size_bytes} B"
