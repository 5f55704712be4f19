"""What a caller says of the module that a version's weights are for, brought into the shapes that travel."""

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import ValidationError

from registry.client.glue import import_pretrained
from registry.errors import InvalidMetadataError
from registry.module_info import Builder, PretrainedConfig


def plain_builder(given: object) -> Builder | None:
    """Return a builder given as one, as `"module.path:callable"`, as a dict, or as the class or function itself.

    Raises:
        InvalidMetadataError: it is none of these, cannot be imported by its name, or an argument is no JSON.
    """
    if given is None or isinstance(given, Builder):
        return given
    document: object = given
    if isinstance(given, str):
        document = {"callable": given}
    elif callable(given):
        document = {"callable": _name_of(cast("Callable[..., Any]", given))}
    if not isinstance(document, Mapping):
        raise InvalidMetadataError(
            'builder= takes \'module.path:callable\', {"callable": …, "arguments": {…}} or a class that can be '
            f"imported, not a {type(given).__name__}."
        )
    members = cast("Mapping[str, Any]", document)
    _check_json(members.get("arguments") or {})
    try:
        return Builder.model_validate({**members})
    except ValidationError as error:
        raise InvalidMetadataError(
            f"The builder {members.get('callable')!r} is not of the form 'module.path:callable' with arguments by "
            f"name: {error.errors(include_url=False)[0]['msg']}."
        ) from error


def plain_pretrained_cfg(given: object, inferred: PretrainedConfig | None = None) -> Any:
    """Return what the module takes and gives: what the caller said, filled up with what the module says.

    Args:
        given: a `PretrainedConfig`, a dict of its members, or a member of a torchvision `Weights`.
        inferred: from the module.

    Raises:
        InvalidMetadataError: members that do not fit their rules.
    """
    if given is None or isinstance(given, dict | PretrainedConfig):
        said = _parse(cast("dict[str, Any]", given)) if isinstance(given, dict) else given
        return _combined(said, inferred, of_weights=False)
    pretrained = import_pretrained()
    if not pretrained.is_weights(given):
        raise InvalidMetadataError(
            "pretrained_cfg= takes a PretrainedConfig, a dict of its members or a member of a torchvision Weights, "
            f"such as ResNet50_Weights.IMAGENET1K_V2, not a {type(given).__name__}."
        )
    return _combined(pretrained.describe_weights(given), inferred, of_weights=True)


def _combined(
    said: PretrainedConfig | None, inferred: PretrainedConfig | None, *, of_weights: bool
) -> PretrainedConfig | None:
    if said is None or inferred is None:
        return said or inferred
    return import_pretrained().combine(said, inferred, of_weights=of_weights)


def _parse(members: dict[str, Any]) -> PretrainedConfig:
    try:
        return PretrainedConfig.model_validate(members)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        known = ", ".join(PretrainedConfig.model_fields)
        raise InvalidMetadataError(f"pretrained_cfg.{place}: {first['msg']}. Its members: {known}.") from error


def _name_of(given: Callable[..., Any]) -> str:
    home, name = str(getattr(given, "__module__", "")), str(getattr(given, "__qualname__", ""))
    if home in {"", "__main__", "builtins"} or not name or "<" in name:
        raise InvalidMetadataError(
            f"{given!r} cannot be imported by its name, so nobody else could call it. Put it into a module of its own, "
            "or push without builder= and pass it to `hub.load(ref, builder=…)`."
        )
    return f"{home}:{name}"


def _check_json(arguments: object) -> None:
    if not isinstance(arguments, Mapping):
        raise InvalidMetadataError("The builder's arguments are a dict by name.")
    for name, value in cast("Mapping[object, object]", arguments).items():
        try:
            same = isinstance(name, str) and json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError, RecursionError):
            same = False
        if not same:
            raise InvalidMetadataError(
                f"The builder's argument {name!r} is a {type(value).__name__} that JSON does not keep as it is. Use "
                "texts, numbers, true, false, null, lists and dicts of such; or push without builder= and pass a "
                "function to `hub.load(ref, builder=…)`."
            )
