import io
import pickle
import re
import zipfile

import pytest
import torch
from torch import nn

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.reader import read
from registry.formats.source import BytesSource

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


def repack(data, change):
    """The archive again, with `change(name, content)` in the place of each content, as torch's writer packs it."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            short = name.partition("/")[2]
            content = change(short, archive.read(name))
            if content is not None and not short.startswith((".data/", "version", "byteorder")):
                writer.write_record(short, content, len(content))
    writer.write_end_of_file()
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


def test_an_unknown_record_of_torchscript_is_reported():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Net()), buffer, _extra_files={"labels.txt": "cat"})
    assert inspect(buffer.getvalue()).unknown_records == []
    renamed = repack(buffer.getvalue(), lambda name, content: content)
    assert inspect(renamed).unknown_records == []


def exported(**changes):
    buffer = io.BytesIO()
    program = torch.export.export(Net().eval(), (torch.ones(1, 3, 8, 8),))
    torch.export.save(program, buffer)
    if not changes:
        return buffer.getvalue()
    return repack(buffer.getvalue(), lambda name, content: changes.get(name.rpartition("/")[2], content))


def test_an_exported_program_is_code():
    inspection = inspect(exported())
    assert (inspection.format, inspection.kind, inspection.trust) == ("torch-export", "module", "code")
    assert inspection.unknown_records == []


def test_a_harmful_file_inside_an_exported_program_is_unsafe():
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(1), "b": pickle.Pickler}, buffer)
    inspection = inspect(exported(**{"model.pt": buffer.getvalue()}))
    assert inspection.trust == "unsafe"
    assert "model.pt" in " ".join(inspection.reasons)


def test_a_broken_file_inside_an_exported_program_is_malformed():
    with pytest.raises(MalformedArtifactError, match=r"model\.pt"):
        inspect(exported(**{"model.pt": b"PK\x03\x04 nothing more"}))


def test_a_bare_pickle_inside_an_exported_program_is_refused():
    with pytest.raises(UnsafeArtifactError, match=r"os\.system"):
        inspect(exported(**{"model.pt": b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."}))


def packaged(value, **resources):
    buffer = io.BytesIO()
    with torch.package.PackageExporter(buffer) as exporter:
        exporter.extern("**")
        exporter.save_pickle("model", "model.pkl", value)
        for name, content in resources.items():
            exporter.save_text("resources", name, content)
    return buffer.getvalue()


def test_a_package_is_code():
    inspection = inspect(packaged(nn.Linear(2, 3)))
    assert (inspection.format, inspection.trust) == ("torch-package", "code")
    assert inspection.foreign_globals == ["torch.nn.modules.linear.Linear"]


def test_a_package_whose_pickle_runs_something_is_unsafe():
    class Runs:
        def __reduce__(self):
            import os

            return os.system, ("true",)

    assert inspect(packaged(Runs())).trust == "unsafe"
