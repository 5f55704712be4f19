"""What the kernel says of a process."""

from pathlib import Path


def anonymous_bytes(pid: int) -> int:
    """Return the memory that a process holds for itself, without files that are mapped."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))
