"""A fault in the reader is found by the mutations, within a bounded number of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fuzzing.planted_bugs import PLANTS

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def copied(tmp_path):
    """A copy of the reader, which a campaign takes in the place of ours."""
    shutil.copytree(ROOT / "registry", tmp_path / "registry", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def campaign(folder, seeds, executions):
    path = os.pathsep.join([str(folder), str(ROOT / "tests"), str(ROOT / "examples")])
    options = ["--corpus", seeds, "--executions", executions, "--seconds", 600, "--thorough", 1.0, "--stop-at-finding"]
    return subprocess.run(
        [sys.executable, "-m", "fuzzing.campaign", *map(str, options)],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_found(name, copied, seed_folder):
    plant = PLANTS[name]
    module = copied / "registry" / "formats" / plant.module
    source = module.read_text()
    assert source.count(plant.text) == 1, f"{plant.module} has changed: plant this fault anew"
    module.write_text(source.replace(plant.text, plant.fault))

    ended = campaign(copied, seed_folder, 60_000)

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "finding  " in ended.stdout


def test_the_copy_without_a_fault_has_no_finding(copied, seed_folder):
    ended = campaign(copied, seed_folder, 3000)
    assert ended.returncode == 0, ended.stdout + ended.stderr
