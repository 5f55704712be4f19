"""What of a weight file is its state_dict: which part of a checkpoint, which names of it, where `_metadata` is kept."""

import fnmatch
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

from registry.errors import AmbiguousWeightsError, InvalidRequestError, NoWeightsError, UnsafeArtifactError
from registry.formats.inspection import Inspection, TensorRecord

DEFAULT_PARTS = ("model_state_dict", "state_dict", "model", "module", "net")
METADATA_KEY = "weighbridge.state_dict_metadata"
"""Where a safetensors file keeps `state_dict._metadata`, as JSON."""
_SECONDARY_ROLES = frozenset({"optimizer", "non_persistent_buffer", "attribute", "constant"})


def is_of_part(tensor: TensorRecord, part: str | None) -> bool:
    """Return whether a tensor of a file belongs to one of its state_dicts."""
    return tensor.part == part and tensor.role not in _SECONDARY_ROLES


def name_in_part(name: str, part: str | None) -> str:
    """Return the key in the state_dict that a name in the file stands for."""
    return name if part is None else name.removeprefix(f"{part}.")


def metadata_of(inspection: Inspection, part: str | None) -> Mapping[str, Mapping[str, Any]] | None:
    """Return torch's `_metadata`: pickled beside the state_dict, or as JSON in a safetensors file that we wrote."""
    if part or inspection.metadata:
        return inspection.metadata.get(part or "")
    try:
        kept: object = json.loads(inspection.file_metadata.get(METADATA_KEY, "null"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(kept, dict):
        return None
    members = cast("dict[str, object]", kept)
    return {name: cast("dict[str, Any]", values) for name, values in members.items() if isinstance(values, dict)}


class EmaPartWarning(UserWarning):
    """The only weights of a checkpoint are an exponential moving average, and the caller did not name them."""


def refuse_unsafe(name: str, inspection: Inspection) -> None:
    """Refuse to take anything out of a file that would do harm.

    Args:
        name: the file's, for the message.
        inspection: of the file.

    Raises:
        UnsafeArtifactError: it is `unsafe`; the detail says why.
    """
    if inspection.trust == "unsafe":
        raise UnsafeArtifactError(
            f"{name} would do harm when it is loaded, so nothing of it is: {' '.join(inspection.reasons)}",
            globals=inspection.foreign_globals,
        )


def choose_part(inspection: Inspection, part: str | None) -> str | None:
    """Return the part to take; None when the file is one state_dict or module.

    Raises:
        NoWeightsError: there is no part of that name, or none at all.
        AmbiguousWeightsError: none is the obvious one.
    """
    if part is not None:
        if part not in inspection.parts:
            known = ", ".join(inspection.parts) or "none, the file is one state_dict"
            raise NoWeightsError(f"There is no part {part!r}. Parts: {known}.", candidates=inspection.parts)
        return part
    if inspection.kind != "checkpoint":
        return None
    return default_part(inspection.parts)


def default_part(parts: Sequence[str]) -> str:
    """Return the part that a checkpoint's weights are when the caller names none.

    Raises:
        NoWeightsError: there are no parts.
        AmbiguousWeightsError: none is the obvious one; `extra["candidates"]` lists them.
    """
    if not parts:
        raise NoWeightsError("The checkpoint holds no state_dict. `pull_checkpoint` gets what it holds.")
    if len(parts) == 1:
        if "ema" in parts[0].lower():
            warnings.warn(
                f"The only weights are the moving average {parts[0]!r}; say `part={parts[0]!r}`.",
                EmaPartWarning,
                stacklevel=2,
            )
        return parts[0]
    for name in DEFAULT_PARTS:
        if name in parts:
            return name
    raise AmbiguousWeightsError(
        f"The checkpoint holds several state_dicts: {', '.join(parts)}. Say which, as in `part={parts[0]!r}`.",
        candidates=list(parts),
    )


def select_names(names: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> set[str]:
    """Return the names that match a pattern of `include` (all when it is empty) and none of `exclude`.

    Raises:
        InvalidRequestError: a pattern (as of `fnmatch`) matches no name: it was mistyped.
    """

    def matching(pattern: str) -> set[str]:
        found = {name for name in names if fnmatch.fnmatchcase(name, pattern)}
        if not found:
            shown = ", ".join(names[:5])
            raise InvalidRequestError(f"The pattern {pattern!r} matches no name. Names are: {shown}, …")
        return found

    wanted: set[str] = set(names) if not include else set[str]().union(*(matching(each) for each in include))
    return wanted.difference(*(matching(each) for each in exclude))
