"""Tar files are read to what `torch.load` makes of them. The writer is the tests' own: torch has none any more."""

import collections
import struct
import tarfile
import tempfile

import pytest
import tar_files
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_files import dumped, members_of, pack
from torch import nn

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.reader import read
from registry.formats.source import BytesSource
from registry.torch.load import load_checkpoint, load_state_dict

# What is written here is old on purpose, and torch says so in many ways.
pytestmark = pytest.mark.filterwarnings("ignore")

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
]  # fmt: skip


def inspect(data):
    return read(BytesSource(data)).inspection


def torch_load(data):
    with tempfile.NamedTemporaryFile() as file:  # torch looks for tar files in real ones only
        file.write(data)
        file.flush()
        return torch.load(file.name, weights_only=False)


def tensor_of(dtype, count):
    return torch.arange(count).to(dtype)


@st.composite
def tensors(draw):
    base = tensor_of(draw(st.sampled_from(DTYPES)), 24)
    shape = draw(st.sampled_from([(24,), (4, 6), (2, 3, 4)]))
    return draw(
        st.sampled_from([base.view(shape), base.view(shape).transpose(0, -1), base[5:9], base[3:4].expand(7), base[2]])
    )


@pytest.mark.parametrize("window", [None, 3])
@settings(max_examples=40, deadline=None)
@given(values=st.dictionaries(st.text(min_size=1, max_size=8), tensors(), min_size=1, max_size=4))
def test_what_is_listed_of_a_tar_file_is_what_torch_loads(window, values):
    data = pack(members_of(collections.OrderedDict(values), window=window))
    inspection, loaded = inspect(data), torch_load(data)
    assert (inspection.format, inspection.kind, inspection.trust) == ("torch-tar", "state_dict", "tensors")
    assert [each.name for each in inspection.tensors] == list(loaded)
    for record, tensor in zip(inspection.tensors, loaded.values(), strict=True):
        assert (record.dtype, record.shape) == (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        assert record.stride == tensor.stride()
        start = record.file_offset
        first = torch.frombuffer(bytearray(data[start : start + tensor.element_size()]), dtype=tensor.dtype)
        assert torch.equal(first[0], tensor.flatten()[0])


@pytest.mark.parametrize("window", [None, 3])
def test_the_state_dict_of_a_tar_file_is_pulled_as_torch_loads_it(window, tmp_path):
    shared = torch.arange(12.0)
    state = collections.OrderedDict(
        {f"a.{dtype}": tensor_of(dtype, 6).view(2, 3).t() for dtype in DTYPES}, tied=shared[2:8], again=shared
    )
    (tmp_path / "old.pth").write_bytes(pack(members_of(state, window=window)))
    loaded = torch_load((tmp_path / "old.pth").read_bytes())
    found = load_state_dict([tmp_path / "old.pth"])
    assert list(found) == list(loaded)
    assert all(torch.equal(found[name], loaded[name]) and found[name].dtype == loaded[name].dtype for name in loaded)
    found["again"][2] = -1
    assert found["tied"][0] == -1


def test_a_checkpoint_of_torch_0_1_9_is_pulled_whole(tmp_path):
    value = {"epoch": 3, "state_dict": {"w": torch.ones(2)}, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    data = pack(members_of(value))
    (tmp_path / "old.pth").write_bytes(data)
    inspection = inspect(data)
    assert (inspection.kind, inspection.parts, inspection.scalars) == (
        "checkpoint",
        ["state_dict"],
        {"epoch": 3, "optimizer.param_groups.0.lr": 0.1},
    )
    found = load_checkpoint(tmp_path / "old.pth")
    assert found["epoch"] == 3
    assert torch.equal(found["state_dict"]["w"], torch.ones(2))
    assert list(load_state_dict([tmp_path / "old.pth"])) == ["w"]


def test_a_whole_module_in_a_tar_file_is_read_to_the_names_of_its_state_dict(tmp_path):
    """Modules of that time held plain tensors in `_buffers` and Parameters of tensors in `_parameters`."""
    module = nn.BatchNorm1d(3)
    module._parameters = {name: value.data for name, value in module._parameters.items()}
    data = pack(members_of(module))
    inspection = inspect(data)
    assert (inspection.kind, inspection.trust) == ("module", "code")
    assert {each.name: each.role for each in inspection.tensors} == {
        "weight": "parameter", "bias": "parameter", "running_mean": "buffer", "running_var": "buffer",
        "num_batches_tracked": "buffer",
    }  # fmt: skip
    (tmp_path / "old.pth").write_bytes(data)
    assert load_state_dict([tmp_path / "old.pth"]).keys() == {each.name for each in inspection.tensors}


def test_a_class_that_travels_in_a_tar_file_is_shown_with_its_source():
    named = b"\x80\x02(cmynet\nNet\nX\x06\0\0\0net.pyX\x05\0\0\0classtQ)\x81."
    inspection = inspect(tar_file({"pickle": named}))
    assert (inspection.trust, inspection.sources) == ("code", {"mynet.Net": "class"})


def global_pickle(module, name):
    return f"\x80\x02c{module}\n{name}\n.".encode("latin-1")


def tar_file(members=None, **options):
    """A tar file of one FloatTensor of two elements, with other members where given."""
    return pack({**members_of({"a": torch.ones(2)}), **(members or {})}, **options)


@pytest.mark.parametrize("member", ["sys_info", "pickle", "tensors", "storages"])
def test_a_harmful_pickle_anywhere_in_a_tar_file_is_unsafe(member):
    harmful = b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."
    try:
        trust = inspect(tar_file({member: harmful})).trust
    except UnsafeArtifactError:
        trust = "unsafe"
    assert trust == "unsafe"


STORAGE = tar_files._described(7, "cpu", "FloatStorage") + struct.pack("<qff", 2, 1, 2)
TENSOR = tar_files._described(8, 7, "FloatTensor")


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"../evil": b""}, "none that torch writes"),
        ({"storages": dumped(1)}, "breaks off"),
        ({"storages": dumped(-1)}, "how many"),
        ({"storages": dumped(10**6)}, "how many"),
        ({"storages": dumped(1) + global_pickle("torch", "FloatStorage")}, "description"),
        ({"storages": dumped(1) + tar_files._described(7, "cpu", "FloatTensor")}, "no class"),
        ({"storages": dumped(2) + STORAGE + STORAGE + dumped([])}, "key of its own"),
        ({"storages": dumped(1) + STORAGE + dumped([(9, 7, 1, 2)])}, "beyond its end"),
        ({"storages": dumped(1) + STORAGE + dumped([(9, 6, 0, 1)])}, "well formed"),
        ({"storages": dumped(1) + STORAGE + dumped(3)}, "parts"),
        ({"storages": dumped(1) + STORAGE[:-16] + struct.pack("<q", 1 << 60)}, "truncated"),
        ({"storages": dumped(1) + STORAGE[:-16] + struct.pack("<qq", -1, 0)}, "truncated"),
        ({"tensors": dumped(1) + TENSOR + struct.pack("<i4x", 65)}, "no storage"),
        ({"pickle": b"\x80\x02K\x07Q."}, "does not hold"),
        ({"pickle": b"P12x\n."}, "does not hold"),
        ({"pickle": dumped({}) + b"more"}, "follow"),
    ],
)
def test_a_tar_file_that_torch_did_not_write_is_refused(members, says):
    with pytest.raises(MalformedArtifactError, match=says):
        inspect(tar_file(members))


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        (struct.pack("<i4xqqq", 1, 2, 1, 1), "beyond the end"),
        (struct.pack("<i4xqqq", 1, 2, -1, 1), "non-negative"),
        (struct.pack("<i4xqqq", 1, 2, 1, -1), "non-negative"),
        (struct.pack("<i4x", 65), "dimensions"),
        (struct.pack("<i4x", -1), "dimensions"),
    ],
)
def test_a_tensor_of_a_tar_file_that_does_not_fit_its_storage_is_refused(numbers, says):
    members = {
        "storages": dumped(1) + STORAGE + dumped([]),
        "tensors": dumped(1) + TENSOR + numbers,
        "pickle": b"\x80\x02}X\x01\0\0\0aK\x08Qs.",
    }
    with pytest.raises(MalformedArtifactError, match=says):
        inspect(tar_file(members))


def test_a_tar_file_of_links_or_with_a_wrong_checksum_is_refused():
    with pytest.raises(MalformedArtifactError, match="none that torch writes"):
        inspect(tar_file(kind=tarfile.SYMTYPE))
    data = bytearray(tar_file())
    data[0] ^= 1
    with pytest.raises(MalformedArtifactError, match="checksum"):
        inspect(bytes(data))
    with pytest.raises(MalformedArtifactError, match="truncated"):
        inspect(tar_file()[:1540])


class Counting(BytesSource):
    bytes_read = 0

    def read_many(self, ranges):
        self.bytes_read += sum(length for _, length in ranges)
        return super().read_many(ranges)


def test_many_small_tensors_are_read_in_one_pass():
    source = Counting(pack(members_of({str(number): torch.ones(1) for number in range(3000)})))
    assert len(read(source).inspection.tensors) == 3000
    assert source.bytes_read < 4 * source.size
