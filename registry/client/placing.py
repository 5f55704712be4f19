"""Files out of the cache, at the places where somebody wants them."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from registry.client.growing_copy import GrowingCopy
from registry.errors import InvalidPathError, InvalidRequestError, StorageFullError
from registry.names import check_path
from registry.schema import ArtifactInfo

_ACCESS_LIST = "system.posix_acl_access"
"""The extended attribute of a file that has more rights than its mode says."""
MIN_GROWING_BYTES = 8 << 20
"""Smaller files are copied in no time."""
MAX_GROWING = 64
"""Each is an open file until all are placed."""


@contextmanager
def growing_copies(folder: Path, artifacts: Sequence[ArtifactInfo]) -> Generator[dict[str, GrowingCopy]]:
    """Yield copies of large artifacts by path, for `place`; those that it did not place are gone at the end.

    Raises:
        InvalidPathError: a link in the folder leads out of it.
    """
    large = [each for each in artifacts if each.size_bytes >= MIN_GROWING_BYTES][:MAX_GROWING]
    folders = {each.path: target_in(folder, check_path(each.path)).parent for each in large}
    with ExitStack() as until_the_end:
        yield {path: until_the_end.enter_context(closing(GrowingCopy(parent))) for path, parent in folders.items()}


def place(file: Path, folder: Path, path: str, copy: GrowingCopy | None = None, *, moves: bool = False) -> Path:
    """Copy or move a file to `folder/path` in one step: what was there stays whole until that is complete.

    Args:
        file: which.
        folder: where to.
        path: its path there.
        copy: of the file, which is used where it is whole.
        moves: leave nothing where the file was.

    Raises:
        InvalidPathError: a link in the folder leads out of it.
        InvalidRequestError: the place cannot be written.
        StorageFullError: the disk filled up; what was there before is still there.
    """
    target = target_in(folder, path)
    with writing_to(target) as temporary:
        if moves:
            _move(file, temporary)
        elif copy is None or not copy.name(temporary, file.stat().st_size):
            shutil.copyfile(file, temporary)
    return target


def _move(file: Path, target: Path) -> None:
    target.touch()
    if _take_rights(file, target):
        try:
            file.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return
    shutil.copyfile(file, target)
    file.unlink()


def _take_rights(file: Path, model: Path) -> bool:
    """Give a file the rights and the group of another, which its folder made what it is; return whether that is all."""
    status = model.stat()
    try:
        if hasattr(os, "chown") and file.stat().st_gid != status.st_gid:
            os.chown(file, -1, status.st_gid)
        file.chmod(stat.S_IMODE(status.st_mode))
        return not (hasattr(os, "listxattr") and _ACCESS_LIST in os.listxattr(model))
    except OSError:
        return False


def target_in(folder: Path, path: str) -> Path:
    """Return where the file with that path lies below a folder, or would.

    Raises:
        InvalidPathError: a link in the folder leads out of it.
    """
    target = folder / path
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise InvalidPathError(f"{path!r} would be written outside of {str(folder)!r}, through a link in it.")
    return target


def require_place(target: Path) -> None:
    """Return when a file could be put there.

    Raises:
        InvalidRequestError: it could not.
    """
    with _beside(target) as temporary:
        temporary.touch()
        if target.is_dir() and not target.is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


@contextmanager
def writing_to(target: Path) -> Generator[Path]:
    """Yield a path to write in the target's place; it becomes the target at the end, or goes.

    Raises:
        InvalidRequestError: the place cannot be written.
        StorageFullError: the disk filled up.
    """
    with _beside(target) as temporary:
        yield temporary
        temporary.replace(target)


@contextmanager
def _beside(target: Path) -> Generator[Path]:
    """Yield a path in the target's folder, where what is still there at the end goes; name the system's errors."""
    temporary = target.with_name(f".weighbridge-{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFullError(f"No room for {str(target)!r}; it was not written.") from error
        raise InvalidRequestError(f"{str(target)!r} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
