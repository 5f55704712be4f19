import io
import pickle
import re

import pytest
import torch
from torch import nn
from torch_archives import repack

from registry.errors import MalformedArtifactError, NoWeightsError
from registry.formats.reader import read
from registry.formats.source import BytesSource
from registry.torch.load import load_state_dict

# What is written here is old on purpose, and torch says so in many ways.
pytestmark = pytest.mark.filterwarnings("ignore")


def inspect(data):
    return read(BytesSource(data)).inspection


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.fc = nn.Linear(4, 2, bias=False)
        self.shift = torch.ones(2)
        self.register_buffer("hidden", torch.zeros(2), persistent=False)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3))) + self.shift + self.hidden


class Writes(nn.Module):
    def forward(self, x: torch.Tensor):
        torch.save(x, "somewhere")
        return x


class Reads(nn.Module):
    def forward(self, x: torch.Tensor):
        return x + torch.from_file("/etc/passwd", False, 3)  # noqa: FBT003 - TorchScript takes it by position


def scripted(module, how=torch.jit.script):
    buffer = io.BytesIO()
    torch.jit.save(how(module), buffer)
    return buffer.getvalue()


def test_scripted_modules_are_read_to_the_names_of_their_state_dict():
    module = torch.jit.script(Net())
    inspection = inspect(scripted(module, lambda each: each))
    named = {each.name: each for each in inspection.tensors if each.role in {"parameter", "buffer"}}
    assert (inspection.format, inspection.kind, inspection.trust) == ("torchscript", "torchscript", "code")
    assert {name: (each.shape, each.stride, each.dtype) for name, each in named.items()} == {
        name: (tuple(value.shape), tuple(value.stride()), str(value.dtype).removeprefix("torch."))
        for name, value in {**dict(module.named_parameters()), **dict(module.named_buffers())}.items()
    }
    assert [each.name for each in inspection.tensors if each.role == "constant"] == ["shift"]
    assert {each.name for each in inspection.tensors if each.role == "parameter"} == dict(
        module.named_parameters()
    ).keys()


def test_the_bytes_of_a_scripted_modules_tensor_lie_where_the_reader_says():
    module = torch.jit.script(Net())
    data = scripted(module, lambda each: each)
    (found,) = [each for each in inspect(data).tensors if each.name == "fc.weight"]
    raw = data[found.file_offset : found.file_offset + found.nbytes]
    assert torch.equal(torch.frombuffer(bytearray(raw), dtype=torch.float32).view(2, 4), module.fc.weight)


def test_a_traced_module_is_code():
    inspection = inspect(scripted(Net(), lambda module: torch.jit.trace(module, torch.ones(1, 3, 8, 8))))
    assert (inspection.trust, inspection.unknown_records) == ("code", [])
    assert "body.0.weight" in {each.name for each in inspection.tensors}


def test_a_frozen_module_says_that_its_weights_have_no_names():
    inspection = inspect(scripted(Net().eval(), lambda module: torch.jit.freeze(torch.jit.script(module))))
    assert inspection.tensors == []
    assert "no names" in inspection.reasons[-1]


@pytest.mark.parametrize(("module", "says"), [(Writes(), "torch.save"), (Reads(), "torch.from_file")])
def test_torchscript_that_touches_files_is_unsafe(module, says):
    inspection = inspect(scripted(module))
    assert inspection.trust == "unsafe"
    assert says in inspection.reasons[0]


@pytest.mark.parametrize(
    "call",
    [
        b"torch . save(x, 'y')",
        b"ops.aten.save(x, 'y')",
        b"(torch).save(x, 'y')",
        b"t = torch\n    t.save(x, 'y')",
        b"torch.\\\nsave(x, 'y')",
        b"getattr(torch, \"save\")(x, 'y')",
        b"getattr(torch, '\\x73ave')(x, 'y')",
        b"ops.image.write_file('y', x)",
    ],
)
def test_a_file_operator_under_a_disguise_is_unsafe(call):
    def disguise(name, content):
        return re.sub(rb"torch\.save\(.*\)", lambda _: call, content) if name.endswith(".py") else content

    assert inspect(repack(scripted(Writes()), disguise)).trust == "unsafe"


def test_a_harmful_pickle_inside_torchscript_is_unsafe():
    def plant(name, content):
        return b"cos\nsystem\n(S'true'\ntR." if name == "constants.pkl" else content

    inspection = inspect(repack(scripted(Net()), plant))
    assert (inspection.trust, "os.system" in inspection.globals) == ("unsafe", True)


def test_a_storage_that_is_missing_makes_torchscript_malformed():
    with pytest.raises(MalformedArtifactError, match="storage 0"):
        inspect(repack(scripted(Net()), lambda name, content: None if name == "data/0" else content))


def pulled(data, tmp_path):
    (tmp_path / "net.pt").write_bytes(data)
    return load_state_dict([tmp_path / "net.pt"])


@pytest.mark.parametrize(
    "how", [torch.jit.script, lambda module: torch.jit.trace(module, torch.ones(1, 3, 8, 8))], ids=["script", "trace"]
)
def test_the_state_dict_of_torchscript_is_pulled_as_torch_jit_loads_it(how, tmp_path):
    data = scripted(Net().eval(), how)
    loaded, found = torch.jit.load(io.BytesIO(data)).state_dict(), pulled(data, tmp_path)
    assert list(found) == list(loaded)
    assert all(torch.equal(found[name], loaded[name]) for name in loaded)


def test_the_state_dict_of_a_frozen_module_is_none(tmp_path):
    data = scripted(Net().eval(), lambda module: torch.jit.freeze(torch.jit.script(module)))
    with pytest.raises(NoWeightsError, match="no tensors by name"):
        pulled(data, tmp_path)
    assert {each.key for each in inspect(data).storages} > {"constants/0"}


@pytest.mark.parametrize("how", [torch.jit.script, lambda module: torch.jit.freeze(torch.jit.script(module))])
def test_what_is_saved_for_mobile_is_read(how, tmp_path):
    how(Net().eval())._save_for_lite_interpreter(str(tmp_path / "net.ptl"), _use_flatbuffer=False)
    inspection = inspect((tmp_path / "net.ptl").read_bytes())
    assert (inspection.format, inspection.trust, inspection.unknown_records) == ("torchscript", "code", [])


@pytest.mark.parametrize("ending", ["constants.pkl", "traced_inputs.pkl", ".debug_pkl"])
def test_a_harmful_pickle_anywhere_in_torchscript_is_unsafe(ending):
    def plant(name, content):
        return b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R." if name.endswith(ending) else content

    data = scripted(Net(), lambda module: torch.jit.trace(module, torch.ones(1, 3, 8, 8)))
    assert inspect(repack(data, plant)).trust == "unsafe"


def test_a_pickle_among_the_extra_files_of_torchscript_is_refused():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Net()), buffer, _extra_files={"labels.txt": "cat\ndog\n", "notes": "\x80 5"})
    assert inspect(buffer.getvalue()).trust == "code"
    with pytest.raises(MalformedArtifactError, match="second pickle"):
        inspect(repack(buffer.getvalue(), lambda name, old: pickle.dumps(3) if name == "extra/notes" else old))
