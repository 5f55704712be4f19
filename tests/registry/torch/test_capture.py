import collections
import errno
import gc
import tracemalloc

import numpy as np
import pytest
import safetensors
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.optim.swa_utils import AveragedModel
from torch.testing._internal.distributed.fake_pg import FakeStore

from registry.errors import NoWeightsError, UnsupportedValueError
from registry.formats.reader import read
from registry.formats.source import FileSource
from registry.torch.capture import capture

QUANTISED = pytest.mark.filterwarnings(
    "ignore:.*other quantized tensor creation:UserWarning", "ignore:TypedStorage is deprecated:UserWarning"
)

COMPILING = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


def make_module():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


@pytest.fixture
def single_process():
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield init_device_mesh("cpu", (2,))
    dist.destroy_process_group()


def test_a_module_becomes_a_safetensors_file_with_order_and_metadata(tmp_path, load, assert_same):
    module = make_module()

    captured = capture(module, tmp_path, name="best")

    assert captured.path == tmp_path / "best.safetensors"
    assert (captured.wrappers, captured.notices, captured.builder) == ([], [], None)
    assert_same(load(captured.path), module.state_dict())


def test_other_readers_of_safetensors_read_what_is_written(tmp_path):
    state_dict = {
        "steps": torch.tensor(3),
        "w": torch.randn(3, 5),
        "h": torch.ones(3).half(),
        "none": torch.empty(0, 2),
    }

    path = capture(state_dict, tmp_path).path

    with safetensors.safe_open(path, "pt") as opened:
        assert opened.metadata()["format"] == "pt"
        assert set(opened.keys()) == set(state_dict)
        assert all(torch.equal(opened.get_tensor(name), each) for name, each in state_dict.items())


def test_every_tensor_of_a_written_safetensors_file_can_be_mapped(tmp_path):
    odd = {
        "b": torch.ones(3, dtype=torch.bool),
        "f": torch.ones(3),
        "d": torch.ones(1).double(),
        "h": torch.ones(1).half(),
    }

    with FileSource(capture(odd, tmp_path).path) as source:
        records = {each.name: each for each in read(source).inspection.tensors}

    assert all(records[name].file_offset % each.itemsize == 0 for name, each in odd.items())


@pytest.mark.parametrize(
    "value",
    [
        {"turned": torch.arange(6.0).reshape(2, 3).t()},
        {"last": torch.ones(1, 2, 3, 3).to(memory_format=torch.channels_last)},
        {"conj": torch.tensor([1j]).conj()},
        {"parameter": nn.Parameter(torch.ones(1))},
        {"grad": torch.ones(1, requires_grad=True)},
        {"sparse": torch.eye(2).to_sparse()},
        {"wide": torch.ones(1).expand(1000)},
        {"half": torch.tensor([1j, 2j], dtype=torch.complex128)},
        {"weight": torch.ones(1), "entry": {"steps": 3}},
        {"weight": torch.ones(1), 7: torch.zeros(1)},
        {"__metadata__": torch.ones(1)},
        {"steps": 3, "model": {"weight": torch.ones(1)}},
    ],
    ids=lambda value: str(next(iter(value))),
)
def test_what_safetensors_would_change_becomes_a_pt_file_and_comes_back(tmp_path, checkpoint_of, assert_same, value):
    captured = capture(value, tmp_path)

    assert captured.path.suffix == ".pt"
    assert_same(checkpoint_of(captured.path), value)


@QUANTISED
def test_quantised_modules_come_back(tmp_path, load, assert_same):
    state_dict = torch.ao.nn.quantized.Linear(2, 2).state_dict()

    assert_same(load(capture(state_dict, tmp_path).path), state_dict)


def test_tied_weights_stay_tied(tmp_path, load):
    module = nn.ModuleDict({"encoder": nn.Embedding(3, 2), "decoder": nn.Linear(2, 3, bias=False)})
    module["decoder"].weight = module["encoder"].weight

    captured = capture(module, tmp_path)
    found = load(captured.path)

    assert captured.path.suffix == ".pt"
    assert found["encoder.weight"].data_ptr() == found["decoder.weight"].data_ptr()


def test_neighbours_in_one_buffer_are_not_tied(tmp_path):
    flat = torch.arange(8.0)

    assert capture({"a": flat[:4], "b": flat[4:]}, tmp_path).path.suffix == ".safetensors"


def test_metadata_that_json_would_change_keeps_the_pt_file(tmp_path, load, assert_same):
    state_dict = make_module().state_dict()
    state_dict._metadata[""]["shape"] = (1, 2)

    captured = capture(state_dict, tmp_path)

    assert captured.path.suffix == ".pt"
    assert_same(load(captured.path), state_dict)


def test_a_state_dict_without_metadata_gets_none(tmp_path, load):
    assert not hasattr(load(capture({"w": torch.ones(1)}, tmp_path).path), "_metadata")


@pytest.mark.parametrize(
    "value",
    [
        {"row": torch.zeros(1024, 1024)[3]},
        {"row": torch.zeros(1024, 1024)[3], "scalar": 1},
        {"column": torch.zeros(1024, 1024)[:, 3]},
        {"nested": [{"row": torch.zeros(1024, 1024)[3], "other": (torch.zeros(1024, 1024)[:2],)}]},
        {"parameter": nn.Parameter(torch.zeros(1024, 1024)[3], requires_grad=False)},
    ],
)
def test_a_view_does_not_drag_its_storage_into_the_file(tmp_path, checkpoint_of, value):
    captured = capture(value, tmp_path)

    assert captured.path.stat().st_size < 40_000
    assert str(checkpoint_of(captured.path)) == str(
        collections.OrderedDict(value) if captured.path.suffix != ".pt" else value
    )


def test_tied_views_of_a_larger_storage_stay_tied_and_small(tmp_path, load):
    base = torch.arange(1024.0 * 1024).reshape(1024, 1024)

    captured = capture({"rows": base[2:4], "row": base[3], "far": base[900]}, tmp_path)
    found = load(captured.path)

    assert captured.path.stat().st_size < 40_000
    assert torch.equal(found["row"], base[3])
    assert torch.equal(found["far"], base[900])
    found["rows"].zero_()
    assert not found["row"].any()
    assert found["far"].all()


def test_strides_of_a_strided_view_are_kept(tmp_path, checkpoint_of, assert_same):
    value = {"even": torch.arange(24.0).reshape(4, 6)[:, ::2]}

    assert_same(checkpoint_of(capture(value, tmp_path).path), value)


def test_capturing_leaves_the_object_as_it_was(tmp_path):
    row = nn.Parameter(torch.zeros(1024, 1024)[3])
    value = {"list": [row], "metrics": {"top1": 0.5}}

    capture(value, tmp_path)

    assert value["list"][0] is row
    assert row.untyped_storage().nbytes() == 4 << 20


def test_a_checkpoint_comes_back_with_its_plain_values(tmp_path, checkpoint_of, assert_same):
    module = make_module()
    optimizer = torch.optim.Adam(module.parameters())
    module[2](torch.ones(1, 4)).sum().backward()
    optimizer.step()
    value = {
        "model": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "lr": np.float64(0.5),
        "row": torch.zeros(1024, 1024)[3], "pair": (1, torch.zeros(512, 8)[2]),
        "default": collections.defaultdict(list, {"a": [1]}),
    }  # fmt: skip

    captured = capture(value, tmp_path)

    assert captured.path.stat().st_size < 40_000
    assert_same(checkpoint_of(captured.path), value)


def test_a_foreign_mapping_is_written_as_a_plain_one(tmp_path, load, assert_same):
    class Weights(collections.UserDict):
        pass

    found = load(capture(Weights(a=nn.Parameter(torch.ones(1))), tmp_path).path)

    assert_same(found, collections.OrderedDict(a=nn.Parameter(torch.ones(1))))


def test_the_values_are_never_copied_as_a_whole(tmp_path):
    state_dict = {f"w{i}": torch.zeros(1 << 18) for i in range(16)}
    gc.collect()
    tracemalloc.start()

    capture(state_dict, tmp_path)

    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@COMPILING
@pytest.mark.parametrize(
    ("wrap", "names"),
    [
        (nn.DataParallel, ["DataParallel"]),
        (torch.compile, ["OptimizedModule"]),
        (AveragedModel, ["AveragedModel"]),
        (lambda module: torch.compile(nn.DataParallel(module)), ["OptimizedModule", "DataParallel"]),
        (lambda module: nn.DataParallel(torch.compile(module)), ["DataParallel", "OptimizedModule"]),
        (lambda module: AveragedModel(nn.DataParallel(module)), ["AveragedModel", "DataParallel"]),
    ],
    ids=["parallel", "compiled", "averaged", "compiled-parallel", "parallel-compiled", "averaged-parallel"],
)
def test_wrappers_are_taken_off_and_recorded(tmp_path, load, assert_same, wrap, names):
    module = make_module()

    captured = capture(wrap(module), tmp_path)

    assert captured.wrappers == names
    assert_same(load(captured.path), module.state_dict())


def test_ddp_is_taken_off(tmp_path, load, single_process):
    module = nn.Linear(2, 2)

    captured = capture(nn.parallel.DistributedDataParallel(module, init_sync=False), tmp_path)

    assert captured.wrappers == ["DistributedDataParallel"]
    assert list(load(captured.path)) == ["weight", "bias"]


def test_the_counter_that_averaging_loses_is_announced(tmp_path):
    assert "n_averaged" in capture(AveragedModel(make_module()), tmp_path).notices[0]


def test_unwrap_false_keeps_the_names(tmp_path, load, assert_same):
    averaged = AveragedModel(make_module())

    captured = capture(averaged, tmp_path, unwrap=False)

    assert captured.wrappers == []
    assert_same(load(captured.path), averaged.state_dict())


def test_a_sharded_tensor_names_the_calls_that_gather_it(tmp_path, single_process):
    sharded = distribute_tensor(torch.ones(4, 2), single_process, [Shard(0)])

    with pytest.raises(UnsupportedValueError, match=r"encoder\.w.*full_tensor\(\).*get_model_state_dict"):
        capture({"encoder.w": sharded}, tmp_path)


def test_a_replicated_tensor_counts_as_sharded_too(tmp_path, single_process):
    with pytest.raises(UnsupportedValueError, match="full_tensor"):
        capture({"w": distribute_tensor(torch.ones(4, 2), single_process, [Replicate()])}, tmp_path)


def test_a_module_under_fsdp_names_the_calls_that_gather_it(tmp_path, single_process):
    module = nn.Linear(4, 4)
    fully_shard(module, mesh=single_process)

    with pytest.raises(UnsupportedValueError, match="get_model_state_dict"):
        capture(module, tmp_path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a.w": torch.empty(2, device="meta")}, r"'a\.w'.*meta"),
        ({"m": nn.Linear(1, 1)}, r"'m'.*Linear.*state_dict\(\).*as_code=True"),
        ({"deep": [{"m": nn.Linear(1, 1)}]}, r"deep\.0\.m"),
        (nn.LazyLinear(2), r"'weight'.*no shape"),
        (torch.ones(1), "no name"),
        (np.ones(1), "not a ndarray"),
        ([torch.ones(1)], "not a list"),
        ("nowhere.pt", "exists, not a str"),
        (torch.optim.SGD([nn.Parameter(torch.ones(1))]), "SGD is no module"),
        ({"f": lambda: 1}, "cannot be written"),
    ],
    ids=["meta", "module", "deep module", "lazy", "tensor", "array", "list", "path", "optimizer", "lambda"],
)
def test_what_cannot_be_pushed_says_why_and_leaves_no_file(tmp_path, value, words):
    with pytest.raises(UnsupportedValueError, match=words):
        capture(value, tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [{}, nn.ReLU()])
def test_nothing_to_push_is_said(tmp_path, value):
    with pytest.raises(NoWeightsError):
        capture(value, tmp_path)


@pytest.mark.parametrize("value", [{"w": torch.ones(1 << 16)}, {"w": nn.Parameter(torch.ones(1 << 16))}])
def test_a_full_disk_stays_a_full_disk_and_leaves_no_file(tmp_path, monkeypatch, value):
    # /dev/full refuses every write as a full disk does.
    for name in ("model.safetensors", "model.pt"):
        (tmp_path / name).symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left") as caught:
        capture(value, tmp_path)

    assert caught.value.errno == errno.ENOSPC


@COMPILING
def test_a_whole_module_is_pickled_only_as_code(tmp_path, load, assert_same):
    module = make_module()

    captured = capture(torch.compile(module), tmp_path, as_code=True)

    assert (captured.path.name, captured.wrappers) == ("model.pt", ["OptimizedModule"])
    assert isinstance(torch.load(captured.path, weights_only=False), nn.Sequential)
    assert_same(load(captured.path), module.state_dict())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_module_is_written_by_torchscript(tmp_path):
    scripted = torch.jit.script(nn.Linear(2, 2))

    captured = capture(scripted, tmp_path, as_code=True)
    weights = capture(scripted, tmp_path, name="weights")

    assert torch.jit.load(captured.path).weight.shape == (2, 2)
    assert weights.path.suffix == ".safetensors"


contents = st.dictionaries(
    st.text(min_size=1, max_size=6),
    st.tuples(st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool]), st.integers(0, 5)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(described=contents)
def test_any_plain_state_dict_comes_back_from_what_is_written(tmp_path, load, assert_same, described):
    state_dict = collections.OrderedDict(
        (name, torch.zeros(count, 2).to(dtype).random_(0, 2)) for name, (dtype, count) in described.items()
    )

    assert_same(load(capture(state_dict, tmp_path).path), state_dict)


def test_a_single_element_with_an_odd_stride_is_written(tmp_path, load):
    tensor = torch.arange(9.0).as_strided((1,), (3,), 2)
    assert load(capture({"w": tensor}, tmp_path).path)["w"].tolist() == [2.0]
