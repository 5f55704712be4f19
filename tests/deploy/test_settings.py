"""The settings that people are shown, against those that the service reads."""

import re
from typing import Any

import pytest
from installation import ROOT

from api.settings import Settings

PREFIX = "WEIGHBRIDGE_"
SECRETS = {"WEIGHBRIDGE_TOKEN", "WEIGHBRIDGE_BLOBS_SECRET_KEY"}
OF_CLIENTS = {"WEIGHBRIDGE_URL", "WEIGHBRIDGE_TOKEN_FILE"}
EXAMPLE = (ROOT / "deploy" / "env.example").read_text()


def known() -> dict[str, Any]:
    """Return the default of every setting by its variable."""
    return {f"{PREFIX}{name.upper()}": field.default for name, field in Settings.model_fields.items()}


def test_the_example_shows_every_setting_and_no_other() -> None:
    assert set(re.findall(rf"^#?({PREFIX}\w+)=", EXAMPLE, re.MULTILINE)) == known().keys()


def test_the_values_in_the_example_are_the_defaults() -> None:
    shown = dict(re.findall(rf"^#({PREFIX}\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert shown == {
        name: str(default).lower() if isinstance(default, bool) else str("" if default is None else default)
        for name, default in known().items()
        if name not in SECRETS
    }


def test_nothing_but_the_secrets_waits_to_be_filled_in() -> None:
    assert re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE) == [
        ("WEIGHBRIDGE_TOKEN", ""), ("POSTGRES_PASSWORD", ""), ("WEIGHBRIDGE_BLOBS_SECRET_KEY", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        *("Dockerfile", "deploy/compose.yaml", "deploy/nginx.conf"),
        *("docs/operating.md", "docs/administration.md", "docs/single-sign-on.md"),
    ],
)
def test_every_setting_that_is_named_exists(path: str) -> None:
    named = set(re.findall(rf"{PREFIX}[A-Z_]+[A-Z]", (ROOT / path).read_text()))
    assert named
    assert named <= known().keys() | OF_CLIENTS
