"""What can be imported, as people write it: `torchvision:resnet50`, `timm:resnet18.a1_in1k`, a URL, a folder."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from registry.errors import InvalidRequestError, NotFoundError
from registry.names import check_name
from registry.paths import expand_home

Kind: TypeAlias = Literal["torchvision", "timm", "hub", "torchhub", "url", "folder"]
_PREFIXES: tuple[Kind, ...] = ("torchvision", "timm", "hub", "torchhub")
_LOCAL_STARTS = ("./", "../", "/", "~")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SUFFIX = re.compile(r"\.(?:tar\.gz|safetensors|[A-Za-z0-9]{1,8})$")
_HASH = re.compile(r"-[0-9a-f]{8,64}$")


@dataclass(frozen=True, slots=True)
class Source:
    """Something to import.

    Attributes:
        kind: where it is.
        name: of it there: `resnet50/IMAGENET1K_V2`, `org/name@revision`, the URL, the path.
    """

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.kind in _PREFIXES else self.name


def is_source(text: str) -> bool:
    """Return whether a text says by its form where something is, so that it is no reference."""
    return text.startswith((*(f"{prefix}:" for prefix in _PREFIXES), "https://", "http://", *_LOCAL_STARTS))


def parse_source(text: str) -> Source:
    """Return what a text names.

    Raises:
        InvalidRequestError: it names nothing that can be imported.
        NotFoundError: it is a path, and no folder is there.
    """
    for prefix in _PREFIXES:
        if text.startswith(f"{prefix}:"):
            name = text.removeprefix(f"{prefix}:")
            if not name:
                raise InvalidRequestError(f"{text!r} names nothing. Write it like {_EXAMPLES[prefix]}.")
            return Source(prefix, name)
    if "://" in text:
        return Source("url", check_source_url(text))
    path = expand_home(text)
    if path.is_dir():
        return Source("folder", str(path))
    if path.is_file():
        raise InvalidRequestError(f"{text!r} is a file: `weighbridge push TEAM/MODEL {text}` publishes it.")
    if is_source(text):
        raise NotFoundError(f"There is no folder {text!r}.")
    raise InvalidRequestError(
        f"{text!r} is nothing that can be imported: {', '.join(_EXAMPLES.values())}, https://…, or a folder."
    )


def check_source_url(text: str) -> str:
    """Return a URL that may be fetched: https, or http on this very machine, and nothing secret in it.

    Raises:
        InvalidRequestError: it may not.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRequestError(f"{text!r} is no URL: {error}.") from error
    if parts.username is not None or parts.password is not None:
        raise InvalidRequestError("The URL holds a name or password, which would be recorded. Leave it out.")
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)):
        raise InvalidRequestError(
            f"{text!r} is no https:// URL. http:// is taken from this machine only: on its way anybody could change "
            "what arrives."
        )
    return text


def file_name(url: str) -> str:
    """Return the name of the file that a URL ends with.

    Raises:
        InvalidRequestError: it ends with none.
    """
    name = unquote(PurePosixPath(urlsplit(url).path).name)
    if not name or "/" in name or "\\" in name:
        raise InvalidRequestError(f"{url!r} ends with no file name.")
    return name


def model_name(source: Source) -> str:
    """Return the model's name for a source when nobody gives one.

    Raises:
        InvalidRequestError: nothing in it can be one.
    """
    if source.kind == "torchvision":
        found = source.name.partition("/")[0]
    elif source.kind == "timm":
        found = source.name.rpartition("/")[2]
    elif source.kind == "hub":
        found = source.name.partition("@")[0].rpartition("/")[2]
    elif source.kind == "folder":
        found = Path(source.name).resolve().name
    else:
        last = file_name(source.name) if source.kind == "url" else PurePosixPath(source.name).name
        found = _HASH.sub("", _SUFFIX.sub("", last))
    try:
        return check_name(found, "model name")
    except InvalidRequestError as error:
        raise InvalidRequestError(
            f"{source} gives the model no name: say TEAM/MODEL after it. {error.detail}"
        ) from error


_EXAMPLES = {
    "torchvision": "torchvision:resnet50/IMAGENET1K_V2",
    "timm": "timm:resnet18.a1_in1k",
    "hub": "hub:org/name@revision",
    "torchhub": "torchhub:resnet18-f37072fd.pth",
}
