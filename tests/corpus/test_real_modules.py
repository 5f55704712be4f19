"""Whole modules of real libraries are `code`, with the tensors of their state_dict; and files of more than 4 GiB."""

import io

import pytest
import torch

from corpus.cases import answer
from corpus.manifests import facts_of
from corpus.real_modules import MODULES
from registry.formats.reader import read
from registry.formats.source import FileSource

pytestmark = pytest.mark.filterwarnings("ignore")


def saved(value, *, zipped=True):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", MODULES)
def test_a_whole_module_is_code_with_the_names_of_its_state_dict(name, zipped):
    module = MODULES[name]()
    verdict, inspection, reasons = answer(saved(module, zipped=zipped))
    assert verdict == "code", reasons
    found = {each.name: each for each in inspection.tensors if each.role in {"parameter", "buffer"}}
    expected = module.state_dict(keep_vars=True)
    assert found.keys() == expected.keys()
    for name_in_module, tensor in expected.items():
        facts = facts_of(tensor)
        assert (found[name_in_module].dtype, found[name_in_module].shape) == (facts.dtype, facts.shape)


def test_a_file_of_more_than_four_gibibytes_is_read_by_its_wide_fields(tmp_path):
    path = tmp_path / "large.pt"
    with torch.serialization.skip_data():
        torch.save({"big": torch.empty(1_100_000_000), "w": torch.ones(3)}, path)  # neither memory nor disk is touched
    with FileSource(path) as source:
        inspection = read(source).inspection
    assert inspection.trust == "tensors"
    assert inspection.size > 1 << 32
    assert {each.name: each.shape for each in inspection.tensors} == {"big": (1_100_000_000,), "w": (3,)}
    assert inspection.tensors[1].file_offset > 1 << 32
