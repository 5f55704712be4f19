import argparse
import collections
import datetime as dt
import decimal
import fractions
import importlib
import pathlib
import random
import sys
import types
import uuid
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from registry.errors import UnsupportedValueError, WeighbridgeError


class Foreign:
    def __init__(self):
        self.value = 1


@pytest.fixture
def trained():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    module(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    scheduler.step()
    return {
        "epoch": 3,
        "model": module.state_dict(),
        "ema": collections.OrderedDict(module.state_dict()),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "loss": 0.25,
        "best": float("nan"),
        "rng": torch.get_rng_state(),
        "python_rng": random.getstate(),
        "hparams": argparse.Namespace(lr=0.1, layers=[1, 2], out=pathlib.Path("runs/1")),
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_a_training_checkpoint_comes_back_whole(save, checkpoint_of, assert_same, trained, legacy):
    path = save(trained, _use_new_zipfile_serialization=not legacy)

    found = checkpoint_of(path)

    assert_same({**found, "hparams": vars(found["hparams"])}, {**trained, "hparams": vars(trained["hparams"])})
    optimizer = torch.optim.AdamW(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).parameters())
    optimizer.load_state_dict(found["optimizer"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_of_the_table_comes_back(save, truth, checkpoint_of, assert_same, protocol):
    values = {
        "bytes": b"\x00\xff", "no bytes": b"", "complex": 1 + 2j, "big": 1 << 200,
        "negative": -(1 << 80), "none": None, "set": {1, "a"}, "frozen": frozenset({2}), "range": range(1, 9, 2),
        "slice": slice(1, 2), "tuple": (1, (2, ())), "ellipsis": ..., 3: "int key", (1, "a"): "tuple key", None: 0,
        "counter": collections.Counter("aab"), "deque": collections.deque([1, 2], maxlen=5),
        "default": collections.defaultdict(list, {"a": [1]}), "ordered": collections.OrderedDict(a=1),
        "date": dt.date(2026, 11, 21), "time": dt.datetime(2026, 11, 21, 4, 5, 6, 7, tzinfo=dt.UTC),
        "delta": dt.timedelta(days=1, seconds=2), "clock": dt.time(1, 2, 3), "decimal": decimal.Decimal("1.50"),
        "fraction": fractions.Fraction(-1, 3), "uuid": uuid.UUID(int=5), "path": pathlib.PurePosixPath("a/b"),
        "space": types.SimpleNamespace(a=[1]), "size": torch.Size([2, 3]), "dtype": torch.bfloat16,
        "device": torch.device("cuda", 1), "layout": torch.sparse_coo,
    }  # fmt: skip
    path = save(values, pickle_protocol=protocol)

    assert_same(checkpoint_of(path), truth(path))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_byte_arrays_come_back(save, truth, checkpoint_of, assert_same, protocol):
    path = save([bytearray(b"ab"), bytearray()], pickle_protocol=protocol)

    assert_same(checkpoint_of(path), truth(path))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_numpy_values_come_back(save, truth, checkpoint_of, assert_same, protocol):
    values = {
        "float": np.float64(1.5), "half": np.float16(2), "int": np.int32(-3), "bool": np.bool_(1),
        "text": np.str_("ab"), "complex": np.complex64(1j), "when": np.datetime64("2026-11-21", "D"),
        "dtype": np.dtype("<f4"), "swapped": np.arange(3, dtype=">i2"), "array": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "scalar": np.array(5), "empty": np.empty((0, 3)),
        "words": np.array(["a", "bcd"]), "times": np.array(["2026-11-21T01:02"], dtype="datetime64[25s]"),
    }  # fmt: skip
    path = save(values, pickle_protocol=protocol)

    found = checkpoint_of(path)

    assert_same(found, truth(path))
    assert found["fortran"].flags.f_contiguous
    found["array"][0, 0] = 7


def test_shared_objects_stay_shared_and_cycles_close(save, checkpoint_of):
    shared = [torch.ones(1)]
    cyclic = {"one": shared, "two": shared}
    cyclic["self"] = [cyclic]

    found = checkpoint_of(save(cyclic))

    assert found["one"] is found["two"]
    assert found["self"][0] is found


def test_a_tuple_that_holds_itself_is_refused(save, checkpoint_of):
    members = []
    members.append((members,))

    assert checkpoint_of(save(members, name="list.pt"))[0][0][0]
    with pytest.raises(UnsupportedValueError, match="contains itself"):
        checkpoint_of(save(members[0], name="tuple.pt"))


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
def test_storages_kept_as_such_come_back(save, truth, checkpoint_of, assert_same):
    untyped = torch.arange(3, dtype=torch.uint8).untyped_storage()
    path = save({"untyped": untyped, "typed": torch.arange(3.0).storage()})

    assert_same(checkpoint_of(path), truth(path))


def test_anything_else_is_named_and_not_made(save, checkpoint_of):
    with pytest.raises(UnsupportedValueError, match="Foreign") as caught:
        checkpoint_of(save({"thing": Foreign(), "weight": torch.ones(1)}))

    assert caught.value.extra["globals"] == [f"{__name__}.Foreign"]


def test_a_pickled_module_is_no_checkpoint_value(save, checkpoint_of):
    with pytest.raises(UnsupportedValueError, match=r"Linear.*trust_code=True"):
        checkpoint_of(save({"model": nn.Linear(1, 1)}))


def test_a_safetensors_file_is_a_flat_checkpoint(tmp_path, checkpoint_of):
    save_file({"a": torch.ones(2)}, tmp_path / "m.safetensors")

    assert checkpoint_of(tmp_path / "m.safetensors")["a"].tolist() == [1, 1]


class Reduced:
    """An object that pickles as the call of its choice."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    "call",
    [
        Reduced(bytearray, 1 << 40),
        Reduced(bytes, 1 << 40),
        Reduced(list, range(1 << 40)),
        Reduced(tuple, range(1 << 40)),
        Reduced(set, range(1 << 40)),
        Reduced(collections.deque, range(1 << 40)),
        Reduced(fractions.Fraction, "1e999999999"),
        Reduced(np.dtype, "O"),
        Reduced(dt.date, "not a date"),
        Reduced(torch.device, "no such device"),
        Reduced(torch.Size, ("a",)),
    ],
    ids=lambda call: call.reduced[0].__name__,
)
def test_a_small_file_cannot_ask_for_much_memory_or_time(save, checkpoint_of, call):
    with pytest.raises(WeighbridgeError):
        checkpoint_of(save({"bomb": call, "weight": torch.ones(1)}))


def test_keys_that_take_forever_to_hash_are_refused(save, checkpoint_of):
    deep = ()
    for _ in range(100):
        deep = (deep, deep)
    # Pickling it by the memo is quick; hashing it would touch 2^100 tuples.
    path = save({"bomb": Reduced(dict, [[deep, 1]]), "weight": torch.ones(1)})

    with pytest.raises(WeighbridgeError):
        checkpoint_of(path)


def test_deeply_nested_lists_come_back(save, tmp_path, checkpoint_of):
    depth = 900
    body = b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."
    path = tmp_path / "deep.pt"
    with zipfile.ZipFile(save({"a": 1})) as template, zipfile.ZipFile(path, "w") as made:
        for name in template.namelist():
            made.writestr(zipfile.ZipInfo(name), body if name.endswith("data.pkl") else template.read(name))

    found = checkpoint_of(path)

    for _ in range(depth - 1):
        (found,) = found
    assert found == []


def test_compressed_and_big_endian_records_come_back(tmp_path, save, checkpoint_of, assert_same):
    values = {"f": torch.arange(4.0), "i": torch.arange(3), "c": torch.ones(2) * 1j, "b": torch.tensor([True])}
    path = tmp_path / "swapped.pt"
    swaps = {"0": "<f4", "1": "<i8", "2": "<f4", "3": "u1"}
    with zipfile.ZipFile(save(values)) as template, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name in template.namelist():
            data, key = template.read(name), name.rpartition("/")[2]
            if "/data/" in name:
                data = np.frombuffer(data, swaps[key]).byteswap().tobytes()
            made.writestr(zipfile.ZipInfo(name), b"big" if key == "byteorder" else data, zipfile.ZIP_DEFLATED)

    assert_same(torch.load(path), values)
    assert_same(checkpoint_of(path), values)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.complex_numbers(),
)
dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    made = torch.zeros(*shape, 3).to(draw(dtypes)).random_(0, 2)
    view = draw(st.sampled_from(["whole", "transposed", "strided", "expanded", "scalar"]))
    if view == "transposed":
        return made.transpose(0, -1)
    if view == "strided":
        return made[..., ::2]
    if view == "expanded":
        return made[..., :1].expand(*shape, 5)
    return made[..., 0] if view == "scalar" else made


values = st.recursive(
    scalars | tensors(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
        st.dictionaries(st.text(max_size=4), inner, max_size=3).map(collections.OrderedDict),
    ),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=st.tuples(values, st.integers(2, 5), st.booleans()))
def test_whatever_torch_saves_comes_back_as_torch_loads_it(save, truth, checkpoint_of, assert_same, case):
    value, protocol, zipped = case
    path = save(value, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)

    assert_same(checkpoint_of(path), truth(path))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_damaged_file_is_refused_by_name_or_read_without_harm(save, checkpoint_of, flips):
    path = save({"w": torch.ones(2, 3), "n": {"a": [1, (2, None)]}})
    data = bytearray(path.read_bytes())
    for position, mask in flips:
        data[position % len(data)] ^= mask
    path.write_bytes(data)

    try:
        checkpoint_of(path)
    except WeighbridgeError as error:
        assert error.detail  # noqa: PT017 - it may also be read, when a value was hit


def test_nothing_is_imported_for_a_file(save, checkpoint_of, tmp_path, monkeypatch):
    module = tmp_path / "payload.py"
    module.write_text("class Net: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = save({"net": importlib.import_module("payload").Net(), "weight": torch.ones(1)})
    monkeypatch.delitem(sys.modules, "payload")

    with pytest.raises(UnsupportedValueError, match=r"payload\.Net"):
        checkpoint_of(path)

    assert "payload" not in sys.modules
