"""What each tensor of a state_dict holds, as far as its manifest's digests tell."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from registry.formats.inspection import Inspection, TensorRecord
from registry.formats.wire import inspection_from_json
from registry.manifest import is_contiguous
from registry.state_dict import choose_part, is_of_part, name_in_part

_EMPTY = "nothing"


class TensorContent(NamedTuple):
    """A tensor and a name for its values.

    Attributes:
        name: in the state_dict.
        shape, dtype: as the manifest has them.
        form: how the values are kept: `strided`, `sparse_coo`, `strided per_tensor_affine`, …
        size_bytes: of the values.
        place: equal for names of the same view of the same storage.
        arrangement: how the values lie in what the digest covers; only equal arrangements can be compared.
        digest: of the values, or of what they are taken from; None where the file's bytes say nothing (compressed).
        is_exact: whether the digest covers nothing but the values, so that another one means other values.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    form: str
    size_bytes: int
    place: Any
    arrangement: Any
    digest: Any
    is_exact: bool

    @property
    def identity(self) -> Any:
        """Equal for tensors whose values are the same bytes; None where that is not known."""
        return None if self.digest is None else (self.arrangement, self.digest)


class _Storage(NamedTuple):
    size_bytes: int
    digest: str | None


def read_contents(manifest: Mapping[str, Any], part: str | None = None) -> dict[str, TensorContent]:
    """Return the tensors of one state_dict of an artifact by name, from its manifest.

    Raises:
        MalformedArtifactError: this is no manifest.
        NoWeightsError, AmbiguousWeightsError: see `choose_part`.
    """
    inspection = inspection_from_json(dict(manifest))
    chosen = only_part(inspection) if part is None else choose_part(inspection, part)
    storages = {each["key"]: _Storage(each["nbytes"], each.get("digest")) for each in manifest["storages"]}
    digests: Sequence[str | None] = [each.get("digest") for each in manifest["tensors"]]
    found = (
        _content(each, name_in_part(each.name, chosen), digest, storages)
        for each, digest in zip(inspection.tensors, digests, strict=True)
        if is_of_part(each, chosen)
    )
    return {each.name: each for each in found}


def join_contents(shards: Sequence[Mapping[str, TensorContent]]) -> dict[str, TensorContent]:
    """Return the tensors of a state_dict that is kept in several files, whose storages have keys of their own."""
    return {
        name: each._replace(place=None if each.place is None else (number, each.place))
        for number, shard in enumerate(shards)
        for name, each in shard.items()
    }


def only_part(inspection: Inspection) -> str | None:
    """Return the part that is meant where none is named; a moving average, too, where it is the only one.

    Raises:
        NoWeightsError, AmbiguousWeightsError: see `choose_part`.
    """
    if inspection.kind == "checkpoint" and len(inspection.parts) == 1:
        return inspection.parts[0]
    return choose_part(inspection, None)


def iter_distinct(contents: Iterable[TensorContent]) -> Iterator[TensorContent]:
    """Yield tensors, each place once: tied ones under their first name."""
    seen: set[Any] = set()
    for each in contents:
        if each.place is None or each.place not in seen:
            seen.add(each.place)
            yield each


def _content(tensor: TensorRecord, name: str, digest: str | None, storages: Mapping[str, _Storage]) -> TensorContent:
    arrangement, named, is_exact = _identify(tensor, digest, storages)
    scheme = (tensor.quantisation or {}).get("scheme")
    place = None
    if tensor.storage_key is not None:
        place = (tensor.storage_key, tensor.storage_offset, tensor.dtype, tensor.shape, tensor.stride)
    return TensorContent(
        name,
        tensor.shape,
        tensor.dtype,
        tensor.layout if scheme is None else f"{tensor.layout} {scheme}",
        tensor.nbytes,
        place,
        arrangement,
        named,
        is_exact,
    )


def _identify(tensor: TensorRecord, digest: str | None, storages: Mapping[str, _Storage]) -> tuple[Any, Any, bool]:
    """Return arrangement, digest and whether it is exact."""
    flags = (tensor.conj, tensor.neg, repr(sorted((tensor.quantisation or {}).items())))
    if tensor.components:
        parts = {key: _identify(each, None, storages) for key, each in sorted(tensor.components.items())}
        own = _identify_strided(tensor, digest, storages) if tensor.storage_key is not None else ((), _EMPTY, True)
        every = [own, *parts.values()]
        digests = tuple(each[1] for each in every)
        shapes = tuple((key, each.shape, each.dtype) for key, each in sorted(tensor.components.items()))
        known = None if None in digests else digests
        return (flags, shapes, *(each[0] for each in every)), known, all(each[2] for each in every)
    if tensor.layout == "strided":
        arrangement, named, is_exact = _identify_strided(tensor, digest, storages)
        return (flags, arrangement), named, is_exact
    return flags, None, False


def _identify_strided(
    tensor: TensorRecord, digest: str | None, storages: Mapping[str, _Storage]
) -> tuple[Any, Any, bool]:
    if not prod(tensor.shape):
        return "dense", _EMPTY, True
    if digest is not None:
        return "dense", digest, True
    storage = storages.get(tensor.storage_key or "")
    if storage is None:
        return (), None, False
    if tensor.storage_offset == 0 and storage.size_bytes == tensor.nbytes and is_contiguous(tensor):
        return "dense", storage.digest, True
    covers = storage.size_bytes == tensor.nbytes
    arrangement = (tensor.storage_offset, tensor.stride, tensor.shape, tensor.dtype)
    return arrangement, storage.digest, covers
