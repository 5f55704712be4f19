"""Building a module without its weights, to compare with: on the meta device, or on the CPU where that cannot be."""

import importlib
import inspect
import warnings
from typing import Any, cast

import torch
from torch import nn

from registry.errors import InvalidRequestError, TrustCodeRequiredError, UnsupportedValueError
from registry.module_info import Builder
from registry.torch.builders import build
from registry.trusted import TRUSTED_LIBRARIES

_NO_WEIGHTS = {"weights": None, "weights_backbone": None, "pretrained": False, "encoder_weights": None}


def build_target(builder: Builder, *, trust_builder: bool = False) -> nn.Module:
    """Return the module that a builder makes, without weights and without a download.

    Args:
        builder: `module.path:callable` and its arguments.
        trust_builder: call builders of other libraries too.

    Raises:
        TrustCodeRequiredError: it is no builder of a known library, and was not trusted.
        UnsupportedValueError: it cannot be imported, or makes no module.
        InvalidRequestError: it refuses its arguments.
    """
    library = builder.callable.partition(".")[0].partition(":")[0]
    if library not in TRUSTED_LIBRARIES and not trust_builder:
        raise TrustCodeRequiredError(
            f"{builder.callable!r} runs code of {library!r}, which is none of {', '.join(sorted(TRUSTED_LIBRARIES))}. "
            "If you trust it, say `trust_builder=True` (`--trust-builder`)."
        )
    without = builder.model_copy(update={"arguments": _without_weights(builder)})
    try:
        return _build(without, torch.device("meta"))
    except (NotImplementedError, RuntimeError):
        # Some builders compute with values as they build (torchvision's RegNet).
        pass
    try:
        return _build(without, torch.device("cpu"))
    except RuntimeError as error:
        raise UnsupportedValueError(f"{builder.callable!r} cannot build its module here: {error}") from error


def _build(builder: Builder, device: torch.device) -> nn.Module:
    with cast("Any", torch.random).fork_rng(devices=[]), warnings.catch_warnings(), device:
        warnings.simplefilter("ignore")
        try:
            return build(builder)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InvalidRequestError(f"{builder.callable!r} refuses its arguments: {error}") from error


def _without_weights(builder: Builder) -> dict[str, Any]:
    """Return the arguments with those that keep the builder from fetching weights, where it has such.

    Raises:
        UnsupportedValueError: the library cannot be imported.
    """
    module_name, _, name = builder.callable.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise UnsupportedValueError(f"The builder {builder.callable!r} cannot be imported: {error}.") from error
    try:
        known = inspect.signature(found).parameters
    except (TypeError, ValueError):
        return dict(builder.arguments)
    return {**{key: value for key, value in _NO_WEIGHTS.items() if key in known}, **builder.arguments}
