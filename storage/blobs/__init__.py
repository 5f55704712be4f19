"""Blob stores: where the bytes of models live, chosen by a URL."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from registry.errors import ConfigurationError
from storage.blobs.base import BlobStore
from storage.blobs.local import DEFAULT_RESERVE_BYTES, LocalBlobStore

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["open_blob_store"]

_BOOLEANS = {"true": True, "false": False}


def open_blob_store(
    url: str | Path,
    *,
    access_key: str | None = None,
    secret_key: SecretStr | None = None,
    reserve_bytes: int = DEFAULT_RESERVE_BYTES,
) -> BlobStore:
    """Return the store that `url` names, importing the library of that backend only.

    Args:
        url: a folder (`/var/lib/weighbridge/blobs`, `file:///var/lib/weighbridge/blobs`);
            `s3://BUCKET/PREFIX?endpoint=URL&public_endpoint=URL&region=NAME&addressing=auto|path|virtual`;
            `minio://HOST:PORT/BUCKET/PREFIX?secure=true|false&public_endpoint=URL&region=NAME`.
        access_key: for a bucket; never in the URL, which ends up in logs.
        secret_key: belongs to `access_key`.
        reserve_bytes: for a folder: what stays free on its disk.

    Raises:
        ConfigurationError: no such kind of store, something unknown in the URL, or its library is not installed.
        BlobStoreUnavailableError: the folder cannot be made.
    """
    if isinstance(url, Path):
        return LocalBlobStore(url, reserve_bytes)
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"Keys do not belong into the URL of the blob store ({parts.scheme}://…@…): it ends up in logs. "
            "Give them as access key and secret key."
        )
    if parts.scheme in ("", "file"):
        return _open_local(url, parts, reserve_bytes)
    openers: dict[str, Callable[..., BlobStore]] = {"s3": _open_s3, "minio": _open_minio}
    if parts.scheme not in openers:
        raise ConfigurationError(
            f"{parts.scheme}:// is no blob store that Weighbridge knows: use a folder, file://, s3:// or minio://."
        )
    try:
        return openers[parts.scheme](parts, access_key, secret_key)
    except ModuleNotFoundError as error:
        extra = parts.scheme
        raise ConfigurationError(
            f"{extra}:// needs the package {error.name}: pip install 'weighbridge[{extra}]'"
        ) from error


def _open_local(url: str, parts: SplitResult, reserve_bytes: int) -> BlobStore:
    if not parts.scheme:
        return LocalBlobStore(Path(url), reserve_bytes)
    if parts.netloc not in ("", "localhost") or parts.query or not parts.path.startswith("/"):
        raise ConfigurationError(f"{url!r} names no folder: write file:///absolute/path.")
    return LocalBlobStore(Path(unquote(parts.path)), reserve_bytes)


def _open_s3(parts: SplitResult, access_key: str | None, secret_key: SecretStr | None) -> BlobStore:
    from storage.blobs.s3 import S3BlobStore

    options = _options(parts, {"endpoint", "public_endpoint", "region", "addressing"})
    addressing = options.get("addressing")
    if addressing not in (None, "auto", "path", "virtual"):
        raise ConfigurationError(f"addressing={addressing} is unknown: use auto, path or virtual.")
    if not parts.netloc:
        raise ConfigurationError("The URL of the blob store names no bucket: write s3://BUCKET/PREFIX.")
    return S3BlobStore(
        parts.netloc,
        parts.path.strip("/"),
        endpoint_url=_endpoint(options, "endpoint"),
        public_endpoint_url=_endpoint(options, "public_endpoint"),
        region=options.get("region"),
        access_key=access_key,
        secret_key=secret_key,
        addressing_style=addressing,
    )


def _open_minio(parts: SplitResult, access_key: str | None, secret_key: SecretStr | None) -> BlobStore:
    from storage.blobs.minio import MinioBlobStore

    options = _options(parts, {"secure", "public_endpoint", "region"})
    secure = options.get("secure", "true")
    bucket, _, prefix = parts.path.strip("/").partition("/")
    if secure not in _BOOLEANS:
        raise ConfigurationError(f"secure={secure} is unknown: use true or false.")
    if not parts.netloc or not bucket:
        raise ConfigurationError("The URL of the blob store names no bucket: write minio://HOST:PORT/BUCKET/PREFIX.")
    return MinioBlobStore(
        parts.netloc,
        bucket,
        prefix,
        access_key=access_key,
        secret_key=secret_key,
        secure=_BOOLEANS[secure],
        public_endpoint_url=_endpoint(options, "public_endpoint"),
        region=options.get("region"),
    )


def _options(parts: SplitResult, known: set[str]) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = options.keys() - known
    if unknown:
        raise ConfigurationError(
            f"Unknown in the URL of the blob store: {', '.join(sorted(unknown))}. "
            f"{parts.scheme}:// knows {', '.join(sorted(known))}; keys are given apart."
        )
    return options


def _endpoint(options: dict[str, str], name: str) -> str | None:
    url = options.get(name)
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or "@" in parts.netloc:
        raise ConfigurationError(f"{name} is no endpoint: write http://HOST:PORT or https://HOST.")
    return url.rstrip("/")
