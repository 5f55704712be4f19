"""Every published bypass is found, harmless, and named."""

import subprocess
import sys

import pytest

from corpus.cases import answer
from corpus.hostile import hostile_cases
from corpus.hostile_pickles import PICKLES

CASES = {case.name: case for case in hostile_cases()}


@pytest.fixture(scope="module")
def marker(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile") / "marker"


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_refused_and_nothing_of_it_runs(name, marker):
    case = CASES[name]
    verdict, _, reasons = answer(case.build(str(marker)))
    assert verdict == case.verdict, reasons
    assert reasons
    assert not marker.exists()


def test_no_two_cases_share_a_name():
    assert len(CASES) == len(list(hostile_cases()))


@pytest.mark.parametrize("trick", ["reduce", "protocol-0", "GHSA-mxhj-obj-popped", "nullifAI-broken-after-the-payload"])
def test_a_payload_would_have_touched_its_marker(trick, tmp_path):
    marker = tmp_path / "marker"
    loads = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
    subprocess.run(
        [sys.executable, "-c", loads], input=PICKLES[trick](f"touch {marker}"), check=False, capture_output=True
    )
    assert marker.exists()
