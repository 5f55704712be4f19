"""Local files and folders where a reference is read, and as what a push sends."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from registry.client.transfer import OutgoingFile
from registry.errors import (
    AmbiguousWeightsError,
    InvalidRequestError,
    MalformedArtifactError,
    NotFoundError,
    NoWeightsError,
)
from registry.formats.sharded import parse_index
from registry.names import check_paths
from registry.paths import expand_home
from registry.weights import has_weights_name, is_index_name

DCP_METADATA = ".metadata"
"""The one dot-file that is no secret of the file system: the plan of a `torch.distributed.checkpoint` folder."""
_LOCAL_STARTS = ("./", "../", "/", "~")


def find_local(text: str | os.PathLike[str]) -> Path | None:
    """Return the local path that a reference means, None when it names something in the registry.

    Local is what starts with `./`, `../`, `/` or `~`, a path object, and what is the path of an existing file.

    Raises:
        NotFoundError: it says that it is local, and nothing is there.
    """
    if isinstance(text, str) and not text.startswith(_LOCAL_STARTS) and text not in {".", ".."}:
        return Path(text) if _is_file(text) else None
    path = expand_home(text)
    if not path.exists():
        raise NotFoundError(f"There is no file or folder {str(path)!r}.")
    return path


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL: then it is none
        return False


def find_weights(path: Path) -> list[Path]:
    """Return the files of a local state_dict: the file itself, an index's shards, or the only weights of a folder.

    Raises:
        NoWeightsError, AmbiguousWeightsError: a folder holds none or several.
        MalformedArtifactError: an index cannot be read.
    """
    if path.is_file():
        return _shards(path) if is_index_name(path.name) else [path]
    files = sorted(each for each in path.iterdir() if each.is_file())
    indexes = [each for each in files if is_index_name(each.name)]
    if len(indexes) == 1:
        return _shards(indexes[0])
    weights = indexes or [each for each in files if has_weights_name(each.name)]
    if not weights:
        raise NoWeightsError(f"{str(path)!r} holds no weight file.")
    if len(weights) > 1:
        names = [each.name for each in weights]
        raise AmbiguousWeightsError(
            f"{str(path)!r} holds several weight files: {', '.join(names)}. Name one of them.", candidates=names
        )
    return weights


def _shards(index: Path) -> list[Path]:
    shards = [index.with_name(name) for name in parse_index(index.read_bytes()).shards]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise MalformedArtifactError(f"{str(index)!r} names shards that are not beside it: {', '.join(missing[:5])}.")
    return shards


@dataclass(slots=True)
class Collected:
    """Files to push, and sentences about what was left out."""

    files: list[OutgoingFile] = field(default_factory=list[OutgoingFile])
    notices: list[str] = field(default_factory=list[str])


def collect(sources: Sequence[str | os.PathLike[str]]) -> Collected:
    """Return the files that a push of these files and folders sends; none has been read.

    A file is named by its last part, a folder's files by their paths below it. Links and dot-files inside a folder
    are left out, with a notice.

    Raises:
        NotFoundError: a source is not there.
        InvalidRequestError: there is nothing to send.
        InvalidPathError: two files would have the same name, or one has a name that no artifact may have.
    """
    collected = Collected()
    found: list[tuple[str, Path]] = []
    for source in sources:
        path = expand_home(source)
        if path.is_dir():
            found += _walk(path, collected.notices)
        elif path.is_file():
            found.append((path.name, path))
        else:
            raise NotFoundError(f"There is no file or folder {str(path)!r}.")
    if not found:
        raise InvalidRequestError("There is no file to push: the folder holds none that is no link and no dot-file.")
    for path, file in zip(check_paths([name for name, _ in found]), [file for _, file in found], strict=True):
        try:
            collected.files.append(OutgoingFile(path, file, file.stat().st_size))
        except OSError as error:
            raise InvalidRequestError(f"{str(file)!r} cannot be read: {error.strerror or error}.") from error
    return collected


def _walk(folder: Path, notices: list[str]) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    skipped: list[str] = []
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        checkpoint = any(name.endswith(".distcp") for name in files)
        for name in sorted([*folders, *files]):
            entry = here / name
            mode = entry.lstat().st_mode
            hidden = name.startswith(".") and not (name == DCP_METADATA and checkpoint)
            if hidden or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                skipped.append(entry.relative_to(folder).as_posix())
            elif stat.S_ISREG(mode):
                found.append((entry.relative_to(folder).as_posix(), entry))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    if skipped:
        shown = ", ".join(skipped[:10]) + (f" and {len(skipped) - 10} more" if len(skipped) > 10 else "")  # noqa: PLR2004 - enough to recognise them
        notices.append(f"Skipped links, dot-files and special files: {shown}.")
    return sorted(found)
