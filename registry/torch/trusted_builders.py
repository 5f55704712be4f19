"""Which calls of the known libraries are called without anybody saying that they are trusted.

A recorded builder is text that somebody else wrote. The libraries also hold functions that run code of other places
(`torch.hub.load`, `from_pretrained` with `trust_remote_code`), and whole standard modules (`torch:os.system`); only
module classes and registered architectures are called.
"""

import importlib
from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from registry.errors import TrustCodeRequiredError
from registry.module_info import Builder
from registry.trusted import TRUSTED_LIBRARIES

_ELSEWHERE = frozenset(":/\\")
"""Names that hold one of these are looked up on the Hub or in a folder (`hf-hub:org/name`), not in the library."""
_NAMING = frozenset({"model_name", "encoder_name", "attn_implementation", "_attn_implementation", "backbone"})
_FILES = frozenset({"checkpoint_path", "pretrained_model_name_or_path"})
_NO_WEIGHTS: Mapping[str, Any] = {
    "weights": None,
    "weights_backbone": None,
    "pretrained": False,
    "encoder_weights": None,
}


def check_library(builder: Builder) -> None:
    """Refuse what belongs to no known library, before anything is imported.

    Raises:
        TrustCodeRequiredError: it does not.
    """
    library = library_of(builder)
    if library not in TRUSTED_LIBRARIES:
        raise TrustCodeRequiredError(
            f"{builder.callable!r} runs code of {library!r}, which is none of {', '.join(sorted(TRUSTED_LIBRARIES))}. "
            "If you trust it, say `trust_builder=True` (`--trust-builder`)."
        )


def check_call(builder: Builder, found: Any) -> None:
    """Refuse what is neither a module class nor a registered architecture of its own library, before it is called.

    Args:
        builder: of a known library.
        found: what it names.

    Raises:
        TrustCodeRequiredError: it would run something else, or look for code or weights elsewhere.
    """
    if not (_is_module_class(builder, found) or _is_architecture(found)):
        raise TrustCodeRequiredError(
            f"{builder.callable!r} is no module class and no registered architecture of {library_of(builder)}; what "
            "it would run is not known. If you trust it, say `trust_builder=True` (`--trust-builder`)."
        )
    strange = _find_strange(builder.arguments)
    if strange is not None:
        raise TrustCodeRequiredError(
            f"The argument {strange} of {builder.callable!r} would look for a module outside its library. If you "
            "trust it, say `trust_builder=True` (`--trust-builder`)."
        )


def library_of(builder: Builder) -> str:
    """Return the top-level package that a builder names."""
    return builder.callable.partition(":")[0].partition(".")[0]


def without_weights(arguments: Mapping[str, Any], known: frozenset[str], *, trusted: bool) -> dict[str, Any]:
    """Return arguments with which a builder fetches no weights.

    Args:
        arguments: as recorded.
        known: the names of the callable's parameters; empty when it does not say.
        trusted: it belongs to a known library, where these names mean weights whatever was recorded.
    """
    added = {name: value for name, value in _NO_WEIGHTS.items() if name in known or (trusted and name in arguments)}
    return {**arguments, **added} if trusted else {**added, **arguments}


def _is_module_class(builder: Builder, found: Any) -> bool:
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        return False
    home = found.__module__
    if library_of(builder) == "torch":
        return home.startswith("torch.nn.modules.")
    return home.partition(".")[0] == library_of(builder)


def _is_architecture(found: Any) -> bool:
    home, name = str(getattr(found, "__module__", "")), str(getattr(found, "__name__", ""))
    if home.startswith("torchvision.models."):
        models = importlib.import_module("torchvision.models")
        return any(models.get_model_builder(each) is found for each in models.list_models())
    if home.startswith("timm.models."):
        timm = importlib.import_module("timm")
        if found is timm.create_model:
            return True
        return bool(timm.is_model(name)) and timm.model_entrypoint(name) is found
    return False


def _find_strange(value: Any) -> str | None:
    """Return the name of an argument that leads out of the library, at any depth."""
    if isinstance(value, Mapping):
        for name, each in cast("Mapping[str, Any]", value).items():
            if name in _FILES or (name in _NAMING and isinstance(each, str) and not _ELSEWHERE.isdisjoint(each)):
                return f"{name}={each!r}"
            inner = _find_strange(each)
            if inner is not None:
                return inner
    if isinstance(value, list):
        return next(filter(None, map(_find_strange, cast("list[Any]", value))), None)
    return None
