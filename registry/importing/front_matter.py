"""The YAML at the head of a README, in which a Hub repository states its licence and tags."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

MAX_BYTES = 64 << 10
"""Of a README that are looked at: the Hub itself takes no longer front matter."""
_FENCE = "---"
_MAX_TAG = 200


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a README's front matter states; empty where it states nothing, or is no YAML."""

    license: str | None = None
    base_model: str | None = None
    tags: dict[str, str] = field(default_factory=dict[str, str])


def read_card(readme: Path | None) -> ModelCard:
    """Return what a README states of its model."""
    if readme is None:
        return ModelCard()
    with readme.open("rb") as file:
        lines = file.read(MAX_BYTES).decode("utf-8", "replace").splitlines()
    if not lines or lines[0].strip() != _FENCE or _FENCE not in lines[1:]:
        return ModelCard()
    try:
        document: object = yaml.safe_load("\n".join(lines[1 : lines.index(_FENCE, 1)]))
    except (yaml.YAMLError, ValueError, RecursionError):
        return ModelCard()
    if not isinstance(document, Mapping):
        return ModelCard()
    members = cast("Mapping[str, Any]", document)
    listed: object = members.get("tags")
    names = cast("list[object]", listed) if isinstance(listed, list) else []
    tags = {name: "true" for name in names if isinstance(name, str) and 0 < len(name) <= _MAX_TAG}
    said = {each: _text(members.get(each)) for each in ("pipeline_tag", "library_name")}
    tags |= {name: value for name, value in said.items() if value is not None}
    license_name = _text(members.get("license_name")) if members.get("license") == "other" else None
    return ModelCard(license_name or _text(members.get("license")), _text(members.get("base_model")), tags)


def _text(value: object) -> str | None:
    if isinstance(value, list):
        return _text(next(iter(cast("list[object]", value)), None))
    return value[:_MAX_TAG] if isinstance(value, str) and value else None
