"""The fixtures that start servers: what they hand out, and what happens when one cannot be started."""

import os
import subprocess
import sys

import pytest
import sqlalchemy

BREAKS_THE_PROGRAMS = """
import servers

def find_nothing(name):
    raise servers.StartError(f"the command {name} is not installed")

servers._program = find_nothing
"""
NEEDS_A_SERVER = "def test_that_needs_one(minio_gateway): pass\n"


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")], ids=["laptop", "ci"])
def test_a_server_that_cannot_start_skips_on_a_laptop_and_fails_in_ci(pytestconfig, tmp_path, ci, outcome):
    (tmp_path / "conftest.py").write_text(BREAKS_THE_PROGRAMS)
    (tmp_path / "test_one.py").write_text(NEEDS_A_SERVER)
    configuration = pytestconfig.rootpath / "pyproject.toml"
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", f"--config-file={configuration}", "-p", "no:cacheprovider", tmp_path],
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert outcome in answer.stdout
    assert "MinIO's gateway cannot be started: the command juicefs is not installed" in answer.stdout


def run(url, statement):
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.begin() as connection:
            answer = connection.execute(sqlalchemy.text(statement))
            return list(answer.scalars()) if answer.returns_rows else []
    finally:
        engine.dispose()


def test_databases_are_empty_apart_and_dropped(postgres):
    with postgres.new_database() as one, postgres.new_database() as other:
        run(postgres.url(one), "CREATE TABLE mine (id integer)")
        run(postgres.url(other), "CREATE TABLE mine (id integer)")

    assert {one, other}.isdisjoint(run(postgres.url("postgres"), "SELECT datname FROM pg_database"))


def test_a_database_in_use_is_dropped_all_the_same(postgres):
    with postgres.new_database() as name:
        engine = sqlalchemy.create_engine(postgres.url(name))
        held = engine.connect()
        held.execute(sqlalchemy.text("SELECT 1"))

    assert name not in run(postgres.url("postgres"), "SELECT datname FROM pg_database")
    held.invalidate()
    held.close()
    engine.dispose()


def test_a_database_can_start_as_a_copy_of_another(postgres):
    with postgres.new_database() as template:
        run(postgres.url(template), "CREATE TABLE copied AS SELECT 7 AS id")
        with postgres.new_database(template) as copy:
            assert run(postgres.url(copy), "SELECT id FROM copied") == [7]
