"""Building a module without its weights, to compare with or to load into."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from registry.errors import InvalidRequestError, UnsupportedValueError
from registry.module_info import Builder
from registry.torch.builders import call, find_callable
from registry.torch.skeleton import build_skeleton, quiet
from registry.torch.trusted_builders import check_call, check_library, without_weights


def build_target(builder: Builder, *, trust_builder: bool = False, with_values: bool = False) -> nn.Module:
    """Return the module that a builder makes, without weights and without a download.

    Its parameters and persistent buffers are on the meta device; what no state_dict holds has its values where the
    builder allows that. A builder that cannot do without values makes its module on the CPU.

    Args:
        builder: `module.path:callable` and its arguments.
        trust_builder: call anything, of any library.
        with_values: make it on the CPU, with the values that it gives itself.

    Raises:
        TrustCodeRequiredError: it names no module class or architecture of a known library, and was not trusted.
            Nothing of it was run.
        UnsupportedValueError: it cannot be imported, or makes no module.
        InvalidRequestError: it refuses its arguments.
    """
    if not trust_builder:
        check_library(builder)
    found = find_callable(builder)
    if not trust_builder:
        check_call(builder, found)
    arguments = without_weights(builder.arguments, _parameter_names(found), trusted=not trust_builder)
    without = builder.model_copy(update={"arguments": arguments})
    for make in () if with_values else (build_skeleton, _on_meta):
        try:
            return _checked(without, found, make)
        except (NotImplementedError, RuntimeError):
            continue
    try:
        return _checked(without, found, _on_cpu)
    except RuntimeError as error:
        raise UnsupportedValueError(f"{builder.callable!r} cannot build its module here: {error}") from error


def _on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with quiet(), torch.device("meta"):
        return make()


def _on_cpu(make: Callable[[], nn.Module]) -> nn.Module:
    with quiet():
        return make()


def _checked(builder: Builder, found: Any, how: Callable[[Callable[[], nn.Module]], nn.Module]) -> nn.Module:
    try:
        return how(lambda: call(builder, found))
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError) as error:
        raise InvalidRequestError(f"{builder.callable!r} refuses its arguments: {error}") from error


def _parameter_names(found: Any) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(found).parameters)
    except (TypeError, ValueError):
        return frozenset()
