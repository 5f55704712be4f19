"""The description of the HTTP API as it is committed: the same on every machine."""

import json

from api.app import create_app
from api.settings import Settings


def describe() -> str:
    """Return OpenAPI as JSON with sorted keys; the version of the software is left out."""
    document = create_app(Settings.model_construct()).openapi()
    document["info"]["version"] = "1"
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
