"""torch.package archives are read to what `torch.package.PackageImporter` loads, with nothing of them run."""

import io

import pytest
import torch
import torch.package.package_exporter
from torch import nn
from torch_archives import repack

from registry.errors import MalformedArtifactError
from registry.formats.reader import read
from registry.formats.source import BytesSource
from registry.torch.load import load_state_dict

# What is written here warns in many ways.
pytestmark = pytest.mark.filterwarnings("ignore")


def inspect(data):
    return read(BytesSource(data)).inspection


def packaged(**pickles):
    buffer = io.BytesIO()
    with torch.package.PackageExporter(buffer) as exporter:
        exporter.extern("**")
        for name, value in pickles.items():
            exporter.save_pickle("net", f"{name}.pkl", value)
    return buffer.getvalue()


def imported(data, name):
    return torch.package.PackageImporter(io.BytesIO(data)).load_pickle("net", f"{name}.pkl")


def module():
    made = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(2, 3))
    made[2].weight = made[0].weight
    return made


def facts(tensor):
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.stride(), tensor.storage_offset()


def test_the_module_of_a_package_is_listed_as_the_importer_loads_it():
    data = packaged(model=module())
    inspection = inspect(data)
    loaded = imported(data, "model").state_dict()
    assert (inspection.format, inspection.kind, inspection.trust) == ("torch-package", "module", "code")
    assert "torch.nn.modules.linear.Linear" in inspection.foreign_globals
    assert inspection.unknown_records == []
    listed = {each.name: (each.dtype, each.shape, each.stride, each.storage_offset) for each in inspection.tensors}
    assert listed == {name: facts(tensor) for name, tensor in loaded.items()}


def test_the_state_dict_of_a_packaged_module_is_pulled(tmp_path):
    data = packaged(model=module())
    (tmp_path / "net.pt").write_bytes(data)
    found, loaded = load_state_dict([tmp_path / "net.pt"]), imported(data, "model").state_dict()
    assert list(found) == list(loaded)
    assert all(torch.equal(found[name], loaded[name]) for name in loaded)
    assert found["0.weight"].data_ptr() == found["2.weight"].data_ptr()


def test_several_pickles_of_a_package_are_parts(tmp_path):
    made = module()
    data = packaged(one=made, two=made.state_dict(), three={"epoch": 3})
    inspection = inspect(data)
    assert (inspection.kind, inspection.parts) == ("checkpoint", ["net/one.pkl", "net/two.pkl"])
    assert inspection.scalars == {"net/three.pkl.epoch": 3}
    (tmp_path / "net.pt").write_bytes(data)
    for part in inspection.parts:
        found = load_state_dict([tmp_path / "net.pt"], part=part)
        assert all(torch.equal(found[name], tensor) for name, tensor in made.state_dict().items())


def test_a_package_of_sources_only_is_a_module_without_tensors():
    buffer = io.BytesIO()
    with torch.package.PackageExporter(buffer) as exporter:
        exporter.save_source_string("mine", "answer = 42\n")
        exporter.save_text("res", "labels.txt", "cat\ndog\n")
    inspection = inspect(buffer.getvalue())
    assert (inspection.kind, inspection.trust, inspection.tensors) == ("module", "code", [])
    assert inspection.unknown_records == ["res/labels.txt"]


def test_modules_that_torch_fx_and_torchscript_pack_in_their_own_way_are_code(monkeypatch):
    monkeypatch.setattr(torch.package.package_exporter, "_gate_torchscript_serialization", False)
    data = packaged(fx=torch.fx.symbolic_trace(nn.Linear(2, 3)), script=torch.jit.script(nn.Linear(2, 3)))
    inspection = inspect(data)
    assert (inspection.trust, inspection.unknown_records) == ("code", [])


class Runs:
    def __reduce__(self):
        import os

        return os.system, ("true",)


def test_a_package_whose_pickle_runs_something_is_unsafe():
    assert inspect(packaged(model=Runs())).trust == "unsafe"


HARMFUL = b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."


def test_a_harmful_pickle_under_any_name_in_a_package_is_unsafe():
    data = repack(packaged(model=module()), lambda name, old: old, **{"net/weights.bin": HARMFUL})
    assert inspect(data).trust == "unsafe"


def test_what_a_package_rebuilds_by_a_function_counts_as_mentioned():
    identity = b"\x80\x02(X\x0e\0\0\0reduce_packageK\x01cos\nsystem\nX\x04\0\0\0true\x85tQ."
    data = repack(packaged(model=3), lambda name, old: identity if name == "net/model.pkl" else old)
    assert inspect(data).trust == "unsafe"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x80\x02K\x03.more", "follow"),
        (b"\x80\x02X\x01\0\0\0aQ.", "persistent id"),
        (b"\x80\x02X\x0e\0\0\0reduce_package\x85Q.", "persistent id"),
        (b"\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nK\x63X\x03\0\0\0cpuK\x01tQ.", "storage 99 is missing"),
    ],
)
def test_a_package_that_torch_did_not_write_is_refused(content, says):
    data = repack(packaged(model=3), lambda name, old: content if name == "net/model.pkl" else old)
    with pytest.raises(MalformedArtifactError, match=says):
        inspect(data)
