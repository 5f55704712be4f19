"""A fault in the reader is found by the ordinary mutations, within a bounded number of them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fuzzing.planted_bugs import PLANTS

ROOT = Path(__file__).parents[2]
MOST_EXECUTIONS = 60_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("planted bugs")]


@pytest.fixture
def copied(tmp_path):
    """A copy of the reader, which a campaign takes in the place of ours."""
    shutil.copytree(ROOT / "registry", tmp_path / "registry", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture(scope="module")
def campaigns():
    """A process that has imported torch once, and forks for each campaign."""
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "examples")])
    process = subprocess.Popen(
        [sys.executable, "-m", "fuzzing.forks"], env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=ROOT / "tests", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        yield process
        process.stdin.close()


def campaign(process, folder, seeds, executions):
    """Return the exit status and what the campaign printed."""
    options = ["--corpus", seeds, "--executions", executions, "--seconds", 600, "--stop-at-finding"]
    process.stdin.write(json.dumps([str(folder), *map(str, options)]) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_found(name, copied, seed_folder, campaigns):
    plant = PLANTS[name]
    module = copied / "registry" / "formats" / plant.module
    source = module.read_text()
    assert source.count(plant.text) == 1, f"{plant.module} has changed: plant this fault anew"
    module.write_text(source.replace(plant.text, plant.fault))

    status, printed = campaign(campaigns, copied, seed_folder, MOST_EXECUTIONS)

    assert status == 1, printed
    assert "finding  " in printed


def test_the_copy_without_a_fault_has_no_finding(copied, seed_folder, campaigns):
    status, printed = campaign(campaigns, copied, seed_folder, 3000)
    assert status == 0, printed
