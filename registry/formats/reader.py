"""The one way into a weight file: its format told by its content, then that format's strict reader."""

import gc
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.archive import Archive
from registry.formats.detection import HEAD_BYTES, Family, detect, explain_unknown, looks_like_weights
from registry.formats.exported import read_export
from registry.formats.inspection import Document
from registry.formats.legacy import read_legacy
from registry.formats.limits import DEFAULT_LIMITS, Limits
from registry.formats.masked_pickles import Prober
from registry.formats.package import read_package
from registry.formats.safetensors import read_safetensors
from registry.formats.salvage import naming_harm
from registry.formats.source import ByteSource
from registry.formats.tar import read_tar
from registry.formats.torch_zip import read_torch_zip
from registry.formats.torchscript import read_torchscript

__all__ = ["HEAD_BYTES", "Family", "detect", "looks_like_weights", "read", "uncollected"]


@contextmanager
def uncollected() -> Generator[None]:
    """Keep the garbage collector from looking through the nodes over and over: a third of the time, for nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@uncollected()
def read(source: ByteSource, limits: Limits = DEFAULT_LIMITS) -> Document:
    """Return what a weight file holds, without running or loading any of it.

    Raises:
        MalformedArtifactError: it is no weight file, or cannot be read strictly.
        UnsafeArtifactError: likewise, and it mentions something that does harm before it fails.
    """
    (head,) = source.read_many([(0, min(HEAD_BYTES, source.size))])
    family = detect(head, source.size)
    if family in {None, "legacy"} and not looks_like_weights(head):
        raise explain_unknown(head, source.size)
    if family == "zip":
        return _read_zip(source, limits)
    if family == "tar":
        return read_tar(source, limits)
    if family != "safetensors":
        return read_legacy(source, limits)
    with naming_harm(source, family, limits):
        document = read_safetensors(source, limits)
    _refuse_two_faced(head, source, limits)
    return document


def _refuse_two_faced(head: bytes, source: ByteSource, limits: Limits) -> None:
    """Refuse what is a safetensors file and a pickle that does harm: `torch.load` would run it under another name."""
    found = Prober(limits).look(head, source.size, lambda part: source.read_many([(0, part.stop)])[0])
    if found.harmful:
        raise UnsafeArtifactError(
            f"The file is safetensors and a pickle at once, which would do harm: {', '.join(found.harmful[:10])}",
            globals=sorted(found.harmful),
        )


def _read_zip(source: ByteSource, limits: Limits) -> Document:
    with naming_harm(source, "zip", limits):
        archive = Archive.open(source, limits)
        reader = _find_reader(archive.entries)
    return reader(archive, source, limits)


def _find_reader(names: Collection[str]) -> Callable[[Archive, ByteSource, Limits], Document]:
    if ".data/extern_modules" in names:
        return read_package
    if "archive_format" in names:
        return read_export
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return read_torchscript
    if "data.pkl" in names:
        return read_torch_zip
    raise MalformedArtifactError("It is a zip archive, but none that torch wrote: it has no record `data.pkl`.")
