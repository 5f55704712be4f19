"""Where names from a service may lie in a folder: inside it, and no two in one place, whatever they are called."""

from collections.abc import Iterable
from pathlib import Path

from registry.errors import InvalidPathError
from registry.exporting.documents import INFO_NAME, SUMS_NAME
from registry.names import check_name, check_path, fold_path

_MAX_PART_BYTES = 200
_WINDOWS_CHARACTERS = frozenset(':<>"|?*')
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{name}{digit}" for name in ("COM", "LPT") for digit in "0123456789¹²³"}
)
_MAX_PATH_BYTES = 800
"""So that a path below its model's folder is short enough to be a path again, when it is imported."""


def place_models(names: Iterable[str]) -> dict[str, str]:
    """Return the folder of each model: its name, where no other model or file of the export is called like it.

    Names that differ in case only are two on one file system and one on another, so the second gets a `~2`, which no
    name can hold.

    Raises:
        InvalidNameError: one is no name of a model.
    """
    taken = {fold_path(INFO_NAME), fold_path(SUMS_NAME)}
    placed: dict[str, str] = {}
    for name in sorted(names):
        folder, count = check_name(name, "model name"), 1
        while fold_path(folder) in taken:
            count += 1
            folder = f"{name}~{count}"
        taken.add(fold_path(folder))
        placed[name] = folder
    return placed


def place_files(folder: str, digests: dict[str, str]) -> dict[str, str]:
    """Return where the files of a version lie: `folder/PATH`, or `folder~/DIGITS` where that cannot be.

    It cannot be for a name that other file systems take for another file's, that is a folder of another file's name,
    that is too long for a file, or that is another file, a device or none on Windows.

    Args:
        folder: of the version, in the export.
        digests: SHA-256 by the paths in the version.

    Raises:
        InvalidPathError: a path is none that an artifact may have.
    """
    placed: dict[str, str] = {}
    taken: set[str] = set()
    parents: set[str] = set()
    for path in sorted(digests):
        name = check_path(path)
        parts = fold_path(name).split("/")
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        whole = "/".join(parts)
        if whole in taken or whole in parents or above & taken or not _is_short(name) or _is_odd(name):
            placed[path] = f"{folder}~/{digests[path].rpartition(':')[2]}"
            continue
        taken.add(whole)
        parents |= above
        placed[path] = f"{folder}/{name}"
    return placed


def _is_short(path: str) -> bool:
    data = path.encode()
    return len(data) <= _MAX_PATH_BYTES and all(len(part) <= _MAX_PART_BYTES for part in data.split(b"/"))


def _is_odd(path: str) -> bool:
    """Return whether Windows takes a name on the way for a drive, a stream or a device, or drops its end."""
    return any(
        _WINDOWS_CHARACTERS & set(part)
        or part.endswith((".", " "))
        or part.partition(".")[0].rstrip(" ").upper() in _DEVICES
        for part in path.split("/")
    )


def require_inside(root: Path, path: str) -> Path:
    """Return `root/path` when no link on the way leads anywhere else.

    Raises:
        InvalidPathError: the path is none, names a drive where there are drives, or goes through a link.
        OSError: a name in it is too long, or a folder cannot be looked into.
    """
    here = root
    for part in check_path(path).split("/"):
        if type(root)(part).drive:  # only Windows has any, and there `out / "C:x"` is not in `out`
            raise InvalidPathError(f"{path!r} names a drive, and no file in {str(root)!r}.")
        here /= part
        if here.is_symlink():
            raise InvalidPathError(f"{path!r} goes through a link in {str(root)!r}. Links are not followed there.")
    return here
