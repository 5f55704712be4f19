from collections import OrderedDict

import pytest
import safetensors.torch
import torch
from real_weights import FILES, real_weights

from registry.formats.reader import read
from registry.formats.source import FileSource

FORMATS = {".ckpt": "torch-zip", ".pth": "torch-legacy", ".pt": "torch-legacy", ".jit": "torchscript"}
OMEGACONF = "pesto/weights/mir-1k_g7.ckpt"


def read_file(path):
    with FileSource(real_weights(path)) as source:
        return read(source).inspection


def facts(tensor):
    return (
        str(tensor.dtype).removeprefix("torch."),
        tuple(tensor.shape),
        tuple(tensor.stride()),
        tensor.storage_offset(),
        tensor.requires_grad,
    )


def recorded_facts(record):
    return record.dtype, record.shape, record.stride, record.storage_offset, record.requires_grad


def iter_tensors(value, path=()):
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from iter_tensors(member, (*path, key))
    elif isinstance(value, list | tuple):
        for position, member in enumerate(value):
            yield from iter_tensors(member, (*path, position))


class Inert(OrderedDict):
    """Stands in for a class that is not installed here."""

    def __init__(self, *_, **__):
        super().__init__()

    def __setstate__(self, state):
        pass


@pytest.fixture
def missing_classes(monkeypatch):
    """Lets torch load a file whose classes are not installed."""
    import pickle
    from types import SimpleNamespace

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            return Inert if module.startswith("omegaconf") else super().find_class(module, name)

    return SimpleNamespace(Unpickler=Unpickler, load=pickle.load, __name__="pickle")


TORCH_FILES = [path for path in FILES if path.endswith((".pth", ".pt", ".ckpt"))]


@pytest.mark.parametrize("path", TORCH_FILES)
def test_a_real_file_is_read_as_torch_loads_it(path, missing_classes):
    loaded = torch.load(real_weights(path), map_location="cpu", weights_only=False, pickle_module=missing_classes)

    inspection = read_file(path)

    expected = {".".join(map(str, keys)): facts(tensor) for keys, tensor in iter_tensors(loaded)}
    assert {each.name: recorded_facts(each) for each in inspection.tensors} == expected
    assert [each.path for each in inspection.tensors] == [keys for keys, _ in iter_tensors(loaded)]
    assert inspection.format == FORMATS[real_weights(path).suffix]


@pytest.mark.parametrize("path", TORCH_FILES)
def test_the_bytes_of_a_real_tensor_lie_where_the_reader_says(path, missing_classes):
    loaded = torch.load(real_weights(path), map_location="cpu", weights_only=False, pickle_module=missing_classes)
    data = real_weights(path).read_bytes()
    inspection = read_file(path)
    starts = {each.key: (each.file_offset, each.nbytes) for each in inspection.storages}

    for record, (_, tensor) in zip(inspection.tensors, iter_tensors(loaded), strict=True):
        start, length = starts[record.storage_key]
        storage = torch.frombuffer(bytearray(data[start : start + length]), dtype=tensor.dtype)
        assert torch.equal(storage.as_strided(record.shape, record.stride, record.storage_offset), tensor)


@pytest.mark.parametrize("path", [path for path in TORCH_FILES if path != OMEGACONF])
def test_a_real_file_that_torch_loads_safely_is_tensors(path):
    assert read_file(path).trust == "tensors"


def test_a_real_checkpoint_with_foreign_classes_is_code_and_names_them():
    inspection = read_file(OMEGACONF)
    assert inspection.trust == "code"
    assert "omegaconf.dictconfig.DictConfig" in inspection.foreign_globals
    assert (inspection.scalars["epoch"], inspection.scalars["global_step"]) == (36, 28379)


def test_a_real_checkpoint_has_its_part_and_scalars():
    inspection = read_file("pesto/weights/mir-1k.ckpt")
    assert (inspection.kind, inspection.parts) == ("checkpoint", ["state_dict"])
    assert {each.part for each in inspection.tensors} == {"state_dict"}


def test_a_real_safetensors_file_is_read_as_the_library_loads_it():
    path = "silero_vad/data/silero_vad_16k.safetensors"
    loaded = safetensors.torch.load_file(real_weights(path))
    inspection = read_file(path)
    assert (inspection.format, inspection.kind, inspection.trust) == ("safetensors", "state_dict", "tensors")
    assert {each.name: recorded_facts(each) for each in inspection.tensors} == {
        name: facts(tensor) for name, tensor in loaded.items()
    }


def test_a_real_torchscript_file_has_the_names_of_its_state_dict():
    path = "silero_vad/data/silero_vad.jit"
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        module = torch.jit.load(str(real_weights(path)), map_location="cpu")
    inspection = read_file(path)
    named = {each.name: each for each in inspection.tensors if each.role in {"parameter", "buffer"}}
    assert (inspection.format, inspection.kind, inspection.trust) == ("torchscript", "torchscript", "code")
    assert {name: each.shape for name, each in named.items()} == {
        name: tuple(tensor.shape) for name, tensor in module.state_dict().items()
    }
