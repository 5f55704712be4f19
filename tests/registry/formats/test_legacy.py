"""The legacy stream is read to its last byte, or not at all."""

import collections
import io
import pickle
import struct

import pytest
import torch

from registry.errors import MalformedArtifactError
from registry.formats.legacy import MAGIC_NUMBER, PROTOCOL_VERSION, read_legacy
from registry.formats.limits import DEFAULT_LIMITS
from registry.formats.source import BytesSource

SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class Id(tuple):
    """A persistent id."""

    __slots__ = ()


class Pickler(pickle.Pickler):
    def __init__(self, file):
        super().__init__(file, 2)

    def persistent_id(self, value):
        return tuple(value) if isinstance(value, Id) else None


class Rebuilt:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


def dump(value):
    buffer = io.BytesIO()
    Pickler(buffer).dump(value)
    return buffer.getvalue()


def stream(value, keys, numels, *, magic=MAGIC_NUMBER, version=PROTOCOL_VERSION):
    storages = b"".join(struct.pack("<q", numel) + bytes(4 * numel) for numel in numels)
    return b"".join(map(dump, (magic, version, SYSTEM, value, keys))) + storages


def tensor(key="7", numel=6, view=None, offset=0, size=(2,)):
    storage = Id(("storage", torch.FloatStorage, key, "cpu", numel, view))
    return Rebuilt(storage, offset, size, (1,), False, collections.OrderedDict())  # noqa: FBT003 - torch's own order


def read_bytes(data):
    return read_legacy(BytesSource(data), DEFAULT_LIMITS).inspection


def test_a_view_of_before_torch_0_4_shifts_its_tensors():
    data = stream({"w": tensor(view=("99", 3, 3), offset=1)}, ["7"], [6])
    inspection = read_bytes(data)
    (record,) = inspection.tensors
    assert record.storage_offset == 4
    assert record.file_offset == inspection.storages[0].file_offset + 16


@pytest.mark.parametrize("view", [("99", 4, 3), ("99", -1, 2), ("99", 0), ("99", 3, 1)])
def test_a_view_that_does_not_fit_is_refused(view):
    with pytest.raises(MalformedArtifactError):
        read_bytes(stream({"w": tensor(view=view)}, ["7"], [6]))


def test_integer_keys_are_taken_as_text():
    assert read_bytes(stream({"w": tensor(key=7)}, [7], [6])).tensors[0].storage_key == "7"


@pytest.mark.parametrize(
    ("keys", "numels"),
    [
        ([], []),
        (["8"], [6]),
        (["7", "7"], [6, 6]),
        (["7", "8"], [6, 1]),
        (["7"], [5]),
        (["7"], [7]),
        ("7", [6]),
        ([None], [6]),
    ],
)
def test_a_list_of_storages_that_is_not_the_pickles_is_refused(keys, numels):
    assert read_bytes(stream({"w": tensor()}, ["7"], [6])).trust == "tensors"
    with pytest.raises(MalformedArtifactError):
        read_bytes(stream({"w": tensor()}, keys, numels))


def test_a_storage_that_announces_another_size_is_refused():
    data = bytearray(stream({"w": tensor()}, ["7"], [6]))
    data[-32:-24] = struct.pack("<q", 5)
    with pytest.raises(MalformedArtifactError, match="as many elements"):
        read_bytes(bytes(data))


@pytest.mark.parametrize("changes", [{"magic": 1}, {"magic": "x"}, {"version": 1002}])
def test_another_magic_number_or_version_is_refused(changes):
    with pytest.raises(MalformedArtifactError):
        read_bytes(stream({}, [], [], **changes))


def test_a_plain_pickle_is_no_torch_file():
    with pytest.raises(MalformedArtifactError, match="magic number"):
        read_bytes(pickle.dumps({"w": 1}))


def test_a_pickle_larger_than_the_first_window_is_read():
    texts = [f"text number {position}" for position in range(50_000)]
    inspection = read_bytes(stream({"texts": texts, "w": {"w": tensor()}}, ["7"], [6]))
    assert [record.name for record in inspection.tensors] == ["w.w"]


def test_storages_of_large_files_are_not_read():
    class Counting(BytesSource):
        read = 0

        def read_many(self, ranges):
            self.read += sum(length for _, length in ranges)
            return super().read_many(ranges)

    numel = 1_000_000
    source = Counting(stream({"w": tensor(numel=numel)}, ["7"], [numel]))
    assert len(read_legacy(source, DEFAULT_LIMITS).inspection.tensors) == 1
    assert source.read < 600_000


def test_parameters_of_torch_0_3_are_read():
    class OldParameter:
        def __reduce__(self):
            return torch.nn.parameter.Parameter, (tensor(),), (False, False, collections.OrderedDict())

    (record,) = read_bytes(stream({"w": OldParameter()}, ["7"], [6])).tensors
    assert (record.role, record.requires_grad) == ("parameter", False)
