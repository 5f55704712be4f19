"""The caches of torch.hub and huggingface_hub on this machine, as they lay them out; nothing is written there."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from registry.client.cache import hash_file
from registry.errors import DigestMismatchError, InvalidRequestError, NotFoundError
from registry.paths import expand_home

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")
"""What torch.hub checks a downloaded file against: the beginning of its SHA-256."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[\w-][\w.-]*")
_REPOSITORY = re.compile(r"[\w.-]+(?:/[\w.-]+)?")


def torch_hub_folder() -> Path:
    """Return where torch.hub keeps downloaded weights: `TORCH_HOME`, else the user's cache folder."""
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")  # noqa: PTH118 - `~` inside a variable is expanded below, as torch does
    return expand_home(home) / "hub" / "checkpoints"


def hub_folder() -> Path:
    """Return where huggingface_hub keeps snapshots: `HF_HUB_CACHE`, `HF_HOME`, else the user's cache folder."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return expand_home(named)
    home = os.environ.get("HF_HOME") or os.path.join(  # noqa: PTH118 - as above
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"
    )
    return expand_home(home) / "hub"


def hash_start(name: str) -> str | None:
    """Return the beginning of the SHA-256 that a file's name gives, None when it gives none."""
    found = _HASH_IN_NAME.search(name)
    return found[1] if found else None


def check_hash(file: Path, start: str | None, what: str) -> str:
    """Return a file's `sha256:…` when it begins as it should.

    Raises:
        DigestMismatchError: it does not.
    """
    digest = hash_file(file)
    if start is not None and not digest.startswith(f"sha256:{start}"):
        raise DigestMismatchError(
            f"{what} has the digest {digest}, and should have one that begins with {start}: it was damaged or "
            "exchanged."
        )
    return digest


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A revision of a Hub repository in the cache.

    Attributes:
        repository: `org/name`.
        commit: its 40 hexadecimal digits.
        files: real files by their paths in the repository.
    """

    repository: str
    commit: str
    files: dict[str, Path]


def find_snapshot(name: str) -> Snapshot:
    """Return what the cache of huggingface_hub holds of `org/name@revision`; the revision is `main` when left out.

    Raises:
        InvalidRequestError: that is no name of a repository.
        NotFoundError: it is not there; the detail says where it would be.
        DigestMismatchError: a large file is damaged.
    """
    repository, _, revision = name.partition("@")
    revision = revision or "main"
    if _REPOSITORY.fullmatch(repository) is None or ".." in name or revision.startswith("/"):
        raise InvalidRequestError(f"{name!r} is no `org/name` or `org/name@revision`.")
    folder = hub_folder() / f"models--{repository.replace('/', '--')}"
    ref = folder / "refs" / revision
    commit = ref.read_text("utf-8").strip() if ref.is_file() else revision
    snapshot = folder / "snapshots" / commit
    if _COMMIT.fullmatch(commit) is None or not snapshot.is_dir():
        raise NotFoundError(
            f"The cache {hub_folder()} holds no {repository} at {revision}. Fetch it with `hf download {repository}"
            f"{'' if revision == 'main' else f' --revision {revision}'}`, or set HF_HUB_CACHE to where it is."
        )
    blobs = (folder / "blobs").resolve()
    files: dict[str, Path] = {}
    for path in sorted(each for each in snapshot.rglob("*") if each.is_file()):
        real = path.resolve()
        if not real.is_relative_to(blobs) and not real.is_relative_to(snapshot.resolve()):
            continue  # a link that leads elsewhere is not huggingface_hub's
        if _DIGEST.fullmatch(real.name):
            check_hash(real, real.name, f"{path.name} in the cache of huggingface_hub")
        if not any(part.startswith(".") for part in path.relative_to(snapshot).parts):
            files[path.relative_to(snapshot).as_posix()] = real
    return Snapshot(repository, commit, files)


def get_torch_hub_file(name: str) -> Path:
    """Return a file of torch.hub's cache whose digest is what its name says.

    Raises:
        InvalidRequestError: the name leads out of the cache.
        NotFoundError: it is not there.
        DigestMismatchError: it is damaged.
    """
    folder = torch_hub_folder()
    if name in {".", ".."} or "/" in name or "\\" in name:
        raise InvalidRequestError(f"torchhub: takes the name of a file in {folder}, not {name!r}.")
    file = folder / name
    if not file.is_file():
        raise NotFoundError(
            f"There is no file {name!r} in {folder}. Set TORCH_HOME to where torch.hub keeps its files."
        )
    check_hash(file, hash_start(name), str(file))
    return file
