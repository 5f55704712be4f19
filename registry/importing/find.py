"""From what was named to files on this machine: out of a cache where one has it, else fetched."""

import os
from pathlib import Path
from urllib.parse import quote, urlsplit

from registry.client.connection import Connection
from registry.client.glue import import_published
from registry.errors import DigestMismatchError, InvalidRequestError, NotFoundError
from registry.importing import local_caches
from registry.importing.arriving import Wanted
from registry.importing.download import fetch
from registry.importing.found import Found, Published
from registry.importing.front_matter import read_card
from registry.importing.sources import Source, check_source_url, file_name
from registry.module_info import Origin
from registry.names import check_path

HUB_URL = "https://huggingface.co"
_README = "README.md"


class Finder:
    """Brings sources onto this machine.

    Args:
        connection: its cache holds what is fetched, and its service says how large a file may be.
        sha256: the hexadecimal SHA-256 that a URL's file must have.
        mirror: stands for the scheme and host of what torchvision, timm and the Hub name.

    Raises:
        InvalidRequestError: the mirror or digest cannot be used.
    """

    def __init__(self, connection: Connection, *, sha256: str | None = None, mirror: str | None = None) -> None:
        self._connection = connection
        self._sha256 = _check_sha256(sha256)
        self._mirror = check_source_url(mirror).rstrip("/") if mirror else None

    def find(self, source: Source) -> Found:
        """Return the files that a source names, with what is known of them.

        Raises:
            WeighbridgeError: see `import_source`.
        """
        if self._sha256 and source.kind != "url":
            raise InvalidRequestError(f"--sha256 is for a URL; {source} is checked against what its publisher says.")
        if source.kind == "url":
            return self._find_url(source)
        if source.kind == "folder":
            return _find_folder(source)
        if source.kind == "hub":
            return _find_hub(source)
        if source.kind == "torchhub":
            file = local_caches.get_torch_hub_file(source.name)
            return Found({source.name: file}, Origin(source=str(source)))
        published = import_published()
        find = published.find_torchvision if source.kind == "torchvision" else published.find_timm
        return self._find_published(find(source.name))

    def _find_url(self, source: Source) -> Found:
        url = source.name
        name = check_path(file_name(url))
        fetched = fetch(self._connection.cache, self._wanted(url, self._sha256))
        notices = [] if self._sha256 else [f"Nobody said which digest it should have; it has {fetched.sha256}."]
        return Found({name: fetched.path}, Origin(source=url, url=url), notices=notices)

    def _find_published(self, published: Published) -> Found:
        found = self._find_in_snapshot(published) or self._find_in_torch_hub(published) or self._fetch(published)
        (file,) = found.files.values()
        described = published.describe(file)
        found.metrics = published.metrics
        found.builder = described.builder
        found.pretrained_cfg = described.pretrained_cfg
        found.notices += described.notices
        return found

    def _find_in_snapshot(self, published: Published) -> Found | None:
        if published.hub_id is None:
            return None
        try:
            snapshot = local_caches.find_snapshot(published.hub_id)
        except NotFoundError:
            return None
        name = next((each for each in published.hub_files if each in snapshot.files), None)
        if name is None:
            return None
        origin = published.origin(url=f"{HUB_URL}/{snapshot.repository}", revision=snapshot.commit)
        return Found({name: snapshot.files[name]}, origin)

    def _find_in_torch_hub(self, published: Published) -> Found | None:
        for url in published.urls:
            name = file_name(url)
            try:
                return Found({name: local_caches.get_torch_hub_file(name)}, published.origin(url=url))
            except NotFoundError:
                continue
            except DigestMismatchError as error:
                found = self._fetch(published)
                found.notices.insert(
                    0, f"{error.detail.partition(' has the digest')[0]} is damaged, so it was fetched."
                )
                return found
        return None

    def _fetch(self, published: Published) -> Found:
        hub = [self._hub_url(published.hub_id, each) for each in published.hub_files] if published.hub_id else []
        candidates = [*hub, *map(self._mirrored, published.urls)]
        for url in candidates:
            hashed_by = "X-Linked-ETag" if url in hub else None
            name = file_name(url)
            wanted = self._wanted(url, local_caches.hash_start(name), hashed_by)
            try:
                fetched = fetch(self._connection.cache, wanted)
            except NotFoundError:
                if url == candidates[-1]:
                    raise
                continue
            return Found({name: fetched.path}, published.origin(url=url))
        raise NotFoundError(f"{published.source} says not where its file is.")

    def _hub_url(self, hub_id: str, name: str) -> str:
        """Return where the Hub, or `HF_ENDPOINT` for it as in huggingface_hub, has a file."""
        base = self._mirror or check_source_url(os.environ.get("HF_ENDPOINT") or HUB_URL).rstrip("/")
        repository, _, revision = hub_id.partition("@")
        return f"{base}/{quote(repository)}/resolve/{quote(revision or 'main', safe='')}/{quote(name)}"

    def _mirrored(self, url: str) -> str:
        return url if self._mirror is None else f"{self._mirror}{urlsplit(url).path}"

    def _wanted(self, url: str, sha256_start: str | None, hashed_by: str | None = None) -> Wanted:
        limits = self._connection.resolver.service().limits
        return Wanted(url, limits.max_artifact_bytes, sha256_start, hashed_by, self._connection.progress)


def _find_folder(source: Source) -> Found:
    folder = Path(source.name)
    readme = folder / _README
    card = read_card(readme if readme.is_file() else None)
    # The path would tell everybody how this user's machine is laid out; the name is what people know it by.
    origin = Origin(source=f"folder:{folder.resolve().name}", license=card.license, details=_base(card.base_model))
    return Found({}, origin, tags=card.tags, folder=folder)


def _find_hub(source: Source) -> Found:
    snapshot = local_caches.find_snapshot(source.name)
    card = read_card(snapshot.files.get(_README))
    details = {"revision": snapshot.commit, **_base(card.base_model)}
    origin = Origin(
        source=f"hub:{snapshot.repository}@{snapshot.commit}",
        url=f"{HUB_URL}/{snapshot.repository}",
        license=card.license,
        details=details,
    )
    return Found({check_path(path): file for path, file in snapshot.files.items()}, origin, tags=card.tags)


def _base(base_model: str | None) -> dict[str, str]:
    return {"base_model": base_model} if base_model else {}


def _check_sha256(text: str | None) -> str | None:
    if text is None:
        return None
    digits = text.strip().lower().removeprefix("sha256:")
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):  # noqa: PLR2004 - of a SHA-256
        raise InvalidRequestError(f"{text!r} is no SHA-256: it has 64 hexadecimal digits.")
    return digits
