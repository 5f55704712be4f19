"""What `--target` may be: a builder, the JSON of an architecture, another weight file, or another reference."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.architecture import Architecture
from registry.cli.options import parse_pairs
from registry.client.check import find_architecture
from registry.client.client import Client
from registry.client.glue import import_targets
from registry.errors import InvalidMetadataError, InvalidRequestError
from registry.module_info import Builder
from registry.trusted import TRUSTED_LIBRARIES

_BUILDER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True, slots=True)
class Target:
    """What was named: a module or an architecture, and the builder that made it or is recorded for it."""

    name: str
    value: Any
    builder: Builder | None = None


def resolve_target(
    client: Client, text: str, arguments: Sequence[str], *, trust_builder: bool, part: str | None = None
) -> Target:
    """Return what `--target` means.

    Args:
        client: resolves references.
        text: as given.
        arguments: `KEY=VALUE` texts for a builder; values are JSON, else text.
        trust_builder: call builders of any library.
        part: the state_dict inside a checkpoint, for a file or reference.

    Raises:
        TrustCodeRequiredError: a builder of another library, not trusted.
        InvalidRequestError: arguments for what is no builder, or not of its kind.
        WeighbridgeError: a file or reference that cannot be read.
    """
    if _is_builder(text, trust_builder=trust_builder):
        builder = Builder(callable=text, arguments=_parse(arguments))
        return Target(_call(builder), import_targets().build_target(builder, trust_builder=trust_builder), builder)
    if arguments:
        raise InvalidRequestError(f"--arg is for a builder such as torchvision.models:resnet50; {text!r} is none.")
    if text.endswith(".json") and Path(text).is_file() and not text.endswith(".index.json"):
        return Target(text, Architecture.from_json(_read_json(Path(text))))
    weights = find_architecture(client.connection, text, part)
    return Target(weights.name, weights.architecture, weights.builder)


def _is_builder(text: str, *, trust_builder: bool) -> bool:
    """Return whether it is `module.path:callable`; a bare `resnet50:v3` is a reference."""
    if not _BUILDER.fullmatch(text) or Path(text).exists():
        return False
    module = text.partition(":")[0]
    return trust_builder or "." in module or module in TRUSTED_LIBRARIES


def _parse(arguments: Sequence[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for name, text in parse_pairs(arguments, "--arg").items():
        try:
            parsed[name] = json.loads(text)
        except ValueError:
            parsed[name] = text
    return parsed


def _call(builder: Builder) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in builder.arguments.items())
    return f"{builder.callable}({given})"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidMetadataError(f"{str(path)!r} is no JSON: {error}.") from error
