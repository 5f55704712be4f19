"""A harmless file is never blamed, and its tensors are what torch says."""

import pytest

from corpus.cases import answer
from corpus.harmless import harmless_cases
from corpus.manifests import assert_manifest

# Old kinds of tensors and files are made on purpose, and torch says so in many ways.
pytestmark = pytest.mark.filterwarnings("ignore")

CASES = {case.name: case for case in harmless_cases()}


@pytest.mark.parametrize("name", CASES)
def test_a_harmless_file_is_what_it_is(name):
    case = CASES[name]
    data = case.build("")
    verdict, inspection, reasons = answer(data)
    assert verdict == case.verdict, reasons
    assert ("data_classes_only" in reasons) == case.data_only
    if case.expected is not None:
        assert_manifest(inspection, data, case.expected())
