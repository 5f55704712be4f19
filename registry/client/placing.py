"""Files out of the cache, at the places where somebody wants them."""

import errno
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
    """Copy a file to `folder/path` in one step: what was there stays whole until the copy is complete.

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
    file.chmod(stat.S_IMODE(target.stat().st_mode))  # as of any file that the user makes there
    try:
        file.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(file, target)
        file.unlink()


def target_in(folder: Path, path: str) -> Path:
    """Return where the file with that path lies below a folder, or would.

    Raises:
        InvalidPathError: a link in the folder leads out of it.
    """
    target = folder / path
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise InvalidPathError(f"{path!r} would be written outside of {str(folder)!r}, through a link in it.")
    return target


@contextmanager
def writing_to(target: Path) -> Generator[Path]:
    """Yield a path to write in the target's place; it becomes the target at the end, or goes.

    Raises:
        InvalidRequestError: the place cannot be written.
        StorageFullError: the disk filled up.
    """
    temporary = target.with_name(f".weighbridge-{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(target)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFullError(f"No room for {str(target)!r}; it was not written.") from error
        raise InvalidRequestError(f"{str(target)!r} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
