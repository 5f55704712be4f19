"""`python -m api …`: looking after an installation."""

import json

import pytest
from click.testing import CliRunner, Result
from starlette.testclient import TestClient

from api.__main__ import main
from api.app import create_app
from api.openapi import describe
from api.settings import Settings


@pytest.fixture
def run(tmp_path):
    """Run a command on the installation in a folder."""

    def invoke(*arguments: str, data: str = "data") -> Result:
        return CliRunner().invoke(main, arguments, env={"WEIGHBRIDGE_DATA": str(tmp_path / data)})

    return invoke


@pytest.fixture
def pushed_once(tmp_path, weights):
    """An installation in `data` with one version."""
    with TestClient(create_app(Settings(data=tmp_path / "data")), base_url="http://localhost") as client:
        answer = client.put("/api/v1/models/vision/net/upload/model.pt", content=weights, params={"alias": "prod"})
    return answer.json()


def test_a_backup_is_restored_into_an_empty_installation_with_everything_it_held(run, tmp_path, pushed_once, weights):
    folder = str(tmp_path / "backup")

    saved, restored = run("backup", folder), run("restore", folder, data="other")

    assert json.loads(saved.stdout) == json.loads(restored.stdout) == {"object_count": 1, "size_bytes": len(weights)}
    with TestClient(create_app(Settings(data=tmp_path / "other")), base_url="http://localhost") as client:
        assert client.get("/api/v1/models/vision/net/versions/prod").json() == pushed_once
        assert client.get("/api/v1/models/vision/net/versions/prod/artifacts/model.pt").content == weights
        again = client.put("/api/v1/models/vision/net/upload/model.pt", content=weights)
        assert again.json()["number"] == 2


def test_a_backup_is_not_restored_over_models(run, tmp_path, pushed_once):
    run("backup", str(tmp_path / "backup"))

    refused = run("restore", str(tmp_path / "backup"))

    assert refused.exit_code == 1
    assert "empty installation" in refused.stderr


def test_garbage_is_collected_by_command(run, pushed_once):
    dry, done = run("gc", "--dry-run"), run("gc")

    assert (dry.exit_code, done.exit_code) == (0, 0)
    assert json.loads(done.stdout)["removed_locations"] == 0


def test_migrating_twice_says_that_there_was_nothing_to_do(run):
    assert "was migrated" in run("migrate").stderr
    assert "up to date" in run("migrate").stderr


def test_a_failure_is_one_sentence_and_status_1(run, tmp_path):
    (tmp_path / "empty").mkdir()

    refused = run("restore", str(tmp_path / "empty"))

    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: ")
    assert "Traceback" not in refused.output


def test_the_description_of_the_api_is_printed_as_it_is_committed(run):
    assert run("openapi").stdout == describe()


def test_every_command_says_what_it_does():
    assert all(command.help for command in main.commands.values())
