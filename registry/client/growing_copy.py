"""A copy of a file that grows while the file comes, out of the pieces that are digested anyway."""

import os
from pathlib import Path


class GrowingCopy:
    """A copy in a folder, without a name until it is whole: a process that is killed leaves nothing of it.

    Whatever goes wrong with it is no error: it is not whole then, and whoever wants it copies the file in the end. Only
    Linux has files without a name, and not on every file system.

    Args:
        folder: where it is wanted; made when the first bytes come.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1
        self._size_bytes = 0
        self._is_given_up = not hasattr(os, "O_TMPFILE")

    def restart(self) -> None:
        """Forget what came."""
        self._size_bytes = 0

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the file."""
        if self._is_given_up:
            return
        try:
            if self._descriptor < 0:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self._folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
            while data:
                written = os.pwrite(self._descriptor, data, self._size_bytes)
                data, self._size_bytes = data[written:], self._size_bytes + written
        except OSError:
            self.close()

    def name(self, path: Path, size_bytes: int) -> bool:
        """Give it a name in its folder; return whether it is whole and has it."""
        if self._is_given_up or self._descriptor < 0 or self._size_bytes != size_bytes:
            return False
        try:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:  # with a folder's descriptor, the link in /proc is followed
                os.link(f"/proc/self/fd/{self._descriptor}", path.name, dst_dir_fd=folder)
            finally:
                os.close(folder)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let go of it, and take nothing more; without a name nothing stays. Again is fine."""
        self._is_given_up = True
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
