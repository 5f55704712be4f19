"""torch.export archives are read to the state_dict that `torch.export.load` gives, with nothing of them run."""

import io
import json
import pickle
import zipfile

import pytest
import torch
from torch import nn
from torch_archives import repack

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.reader import read
from registry.formats.source import BytesSource
from registry.torch.load import load_state_dict

# What is written here warns in many ways.
pytestmark = pytest.mark.filterwarnings("ignore")

DTYPES = [
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64,
    torch.complex64, torch.complex128, torch.bool, torch.bfloat16, torch.uint16, torch.uint32, torch.uint64,
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
]  # fmt: skip


def inspect(data):
    return read(BytesSource(data)).inspection


class Net(nn.Module):
    """Tied, transposed and partial weights, buffers of every dtype, a constant."""

    def __init__(self, dtypes=()):
        super().__init__()
        self.a, self.b = nn.Linear(2, 3), nn.Linear(2, 3)
        self.b.weight = self.a.weight
        self.turned = nn.Parameter(torch.arange(6.0).view(3, 2).t())
        whole = torch.arange(10.0)
        self.register_buffer("whole", whole)
        self.register_buffer("part", whole[3:6])
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("hidden", torch.ones(3), persistent=False)
        self.constant = torch.full((3,), 2.0)
        for dtype in dtypes:
            self.register_buffer(str(dtype).replace(".", "_"), torch.tensor([0, 1, 1, 0]).to(dtype))

    def forward(self, x):
        used = self.turned.sum() + self.part + self.whole[:3] + self.hidden + self.constant + self.empty.sum()
        return self.a(x) + self.b(x) + used


def exported(module):
    program = torch.export.export(module.eval(), (torch.ones(1, 2),))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def data():
    return exported(Net(DTYPES))


@pytest.fixture(scope="module")
def loaded(data):
    return torch.export.load(io.BytesIO(data))


def facts(tensor):
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.stride(), tensor.storage_offset()


def test_weights_are_listed_as_torch_export_loads_them(data, loaded):
    inspection = inspect(data)
    assert (inspection.format, inspection.kind, inspection.trust) == ("torch-export", "module", "code")
    assert inspection.unknown_records == []
    listed = {each.name: each for each in inspection.tensors if each.role in {"parameter", "buffer"}}
    assert {name: (each.dtype, each.shape, each.stride, each.storage_offset) for name, each in listed.items()} == {
        name: facts(tensor) for name, tensor in loaded.state_dict.items()
    }
    assert {name for name, each in listed.items() if each.role == "parameter"} == {
        name for name, tensor in loaded.state_dict.items() if isinstance(tensor, nn.Parameter)
    }
    assert {each.name for each in inspection.tensors if each.role == "constant"} == loaded.constants.keys()
    assert listed["a.weight"].requires_grad


def test_the_state_dict_of_an_exported_program_is_pulled(data, loaded, tmp_path):
    (tmp_path / "net.pt2").write_bytes(data)
    found = load_state_dict([tmp_path / "net.pt2"])
    assert found.keys() == loaded.state_dict.keys()
    for name, tensor in loaded.state_dict.items():
        assert facts(found[name]) == facts(tensor)
        assert found[name].contiguous().flatten().tolist() == tensor.detach().contiguous().flatten().tolist()
    assert found["a.weight"].data_ptr() == found["b.weight"].data_ptr()
    assert found["part"].data_ptr() == found["whole"][3:].data_ptr()
    assert not any(tensor.requires_grad for tensor in found.values())


def test_the_bytes_of_an_exported_weight_lie_where_the_reader_says(data, loaded):
    (found,) = [each for each in inspect(data).tensors if each.name == "part"]
    raw = bytearray(data[found.file_offset : found.file_offset + found.nbytes])
    assert torch.equal(torch.frombuffer(raw, dtype=torch.float32), loaded.state_dict["part"])


def test_several_programs_in_one_archive_are_parts(tmp_path):
    from torch.export.pt2_archive._package import package_pt2

    programs = {name: torch.export.export(nn.Linear(2, 3), (torch.ones(1, 2),)) for name in ("one", "two")}
    package_pt2(str(tmp_path / "both.pt2"), exported_programs=programs)
    inspection = inspect((tmp_path / "both.pt2").read_bytes())
    assert (inspection.kind, inspection.parts) == ("checkpoint", ["one", "two"])
    assert [each.name for each in inspection.tensors] == ["one.weight", "one.bias", "two.weight", "two.bias"]
    found = load_state_dict([tmp_path / "both.pt2"], part="two")
    assert torch.equal(found["weight"], programs["two"].state_dict["weight"])


def pickled_weight(**meta):
    """An archive whose only weight is a torch.save file, as torch.export writes tensors of other classes."""
    buffer = io.BytesIO()
    torch.save(torch.arange(6.0).view(2, 3), buffer)
    config = {"w": {"path_name": "weight_0", "is_param": True, "use_pickle": True, "tensor_meta": {"dtype": 7}} | meta}

    def change(name, content):
        if name.endswith("weights_config.json"):
            return json.dumps({"config": config}).encode()
        return buffer.getvalue() if name == "data/weights/weight_0" else content

    return repack(exported(Net()), change)


def test_a_weight_that_is_a_torch_file_itself_is_listed_and_pulled(tmp_path):
    data = pickled_weight()
    (found,) = [each for each in inspect(data).tensors if each.role != "constant"]
    assert (found.name, found.path, found.shape, found.role) == ("w", ("w",), (2, 3), "parameter")
    raw = bytearray(data[found.file_offset : found.file_offset + found.nbytes])
    assert torch.frombuffer(raw, dtype=torch.float32).tolist() == [0, 1, 2, 3, 4, 5]
    (tmp_path / "net.pt2").write_bytes(data)
    assert torch.equal(load_state_dict([tmp_path / "net.pt2"])["w"], torch.arange(6.0).view(2, 3))


def changed(**entry):
    """An archive whose configuration says something else of its first weight."""

    def change(name, content):
        if not name.endswith("weights_config.json"):
            return content
        document = json.loads(content)
        found = document["config"]["turned"]
        found.update({key: value for key, value in entry.items() if key in found})
        found["tensor_meta"].update({key: value for key, value in entry.items() if key not in found})
        return json.dumps(document).encode()

    return repack(exported(Net()), change)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"path_name": "weight_99"}, "does not hold"),
        ({"path_name": "../models/model"}, "does not hold"),
        ({"path_name": 3}, "does not describe"),
        ({"is_param": "yes"}, "does not describe"),
        ({"dtype": 99}, "views its bytes"),
        ({"dtype": True}, "views its bytes"),
        ({"layout": 1}, "views its bytes"),
        ({"requires_grad": 1}, "views its bytes"),
        ({"sizes": [{"as_expr": {}}]}, "views its bytes"),
        ({"sizes": 3}, "views its bytes"),
        ({"sizes": [{"as_int": 1 << 30}, {"as_int": 3}]}, "beyond the end"),
        ({"storage_offset": {"as_int": 1}}, "beyond the end"),
        ({"storage_offset": {"as_int": -1}}, "non-negative"),
        ({"strides": [{"as_int": 1}]}, "strides"),
        ({"sizes": [{"as_int": 1}] * 65, "strides": [{"as_int": 1}] * 65}, "dimensions"),
    ],
)
def test_a_configuration_that_torch_did_not_write_is_refused(entry, says):
    with pytest.raises(MalformedArtifactError, match=says):
        inspect(changed(**entry))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[]", "describes no weights"),
        (b'{"config": {"a": 1}}', "does not describe"),
        (b'{"config": {}, "config": {}}', "repeats a key"),
        (b'{"config": NaN}', "NaN"),
        (b"[" * 100 + b"]" * 100, "nested"),
    ],
)
def test_json_that_means_nothing_certain_is_refused(content, says):
    with pytest.raises(MalformedArtifactError, match=says):
        inspect(repack(exported(Net()), lambda name, old: content if name.endswith("weights_config.json") else old))


def with_record(record, content):
    return repack(exported(Net()), lambda name, old: old, **{record: content})


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def replaced(record, content):
    return repack(exported(Net()), lambda name, old: content if name == record else old)


def test_a_harmful_file_inside_an_exported_program_is_unsafe():
    inspection = inspect(replaced("data/sample_inputs/model.pt", saved({"b": pickle.Pickler})))
    assert inspection.trust == "unsafe"
    assert "model.pt" in " ".join(inspection.reasons)


def test_a_broken_file_inside_an_exported_program_is_malformed():
    with pytest.raises(MalformedArtifactError, match=r"model\.pt"):
        inspect(replaced("data/sample_inputs/model.pt", b"PK\x03\x04 nothing more"))


def test_a_bare_pickle_inside_an_exported_program_is_refused():
    with pytest.raises(UnsafeArtifactError, match=r"os\.system"):
        inspect(replaced("data/sample_inputs/model.pt", b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."))


def test_a_constant_that_is_a_pickle_is_run_on_the_machine():
    harmless = with_record("data/constants/opaque_obj_0", pickle.dumps({"size": 3}, protocol=2))
    assert inspect(harmless).trust == "code"
    harmful = with_record("data/constants/opaque_obj_0", b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.")
    assert inspect(harmful).trust == "unsafe"
    with pytest.raises(MalformedArtifactError, match="follow"):
        inspect(with_record("data/constants/opaque_obj_0", pickle.dumps(3) + b"more"))


def test_native_code_inside_an_exported_program_is_named():
    inspection = inspect(with_record("data/aotinductor/model/net.wrapper.so", b"\x7fELF" + bytes(100)))
    assert "native code: data/aotinductor/model/net.wrapper.so" in " ".join(inspection.reasons)


def test_a_compressed_archive_is_read_without_offsets(tmp_path):
    data = exported(Net())
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(tmp_path / "net.pt2", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    found = load_state_dict([tmp_path / "net.pt2"])
    loaded = torch.export.load(io.BytesIO(data)).state_dict
    assert all(torch.equal(found[name], loaded[name]) for name in loaded)
