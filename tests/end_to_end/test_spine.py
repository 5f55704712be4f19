"""A real model goes in over HTTP and comes out by name and version: the same on all three installations."""

import hashlib
import json
import warnings
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from equality import assert_same
from safetensors.torch import save_file
from support.service import Service
from torch import nn

from registry.client import push
from weighbridge import MalformedArtifactError, ModelNotFoundError, TrustCodeRequiredError, UnsafeArtifactError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*other quantized tensor creation:UserWarning", "ignore:TypedStorage is deprecated:UserWarning"
)

DTYPES = (torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.bool, torch.uint16, torch.int8)


class Net(nn.Module):
    """A net with a convolution, a BatchNorm and a tied pair."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.embedding = nn.Embedding(12, 16)
        self.decoder = nn.Linear(16, 12, bias=False)
        self.decoder.weight = self.embedding.weight


class Extra(nn.Linear):
    """A layer that keeps more than tensors in its state_dict."""

    def get_extra_state(self) -> dict[str, object]:
        return {"calls": 7, "scale": torch.tensor([2.5])}

    def set_extra_state(self, state: dict[str, object]) -> None:
        del state


def quantised() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to give up quantised tensors; files hold them for ever
        return torch.quantize_per_channel(torch.rand(4, 3), torch.ones(4), torch.zeros(4), 0, torch.qint8)


def state_dicts() -> dict[str, object]:
    """Return state_dicts of every sort that must come back as they went in."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)).state_dict()
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "plain": dict(plain),
        "ordered": OrderedDict(plain),
        "with-metadata": plain,
        "tied": Net().state_dict(),
        "views": {"transposed": base.t(), "row": base[1]},
        "channels-last": {"weight": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)},
        "dtypes": {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES},
        "small": {"scalar": torch.tensor(3.5), "empty": torch.empty(0, 4)},
        "quantised": {"weight": quantised()},
        "extra": Extra(3, 2).state_dict(),
    }


NAMES = sorted(state_dicts())


def checkpoint() -> dict[str, object]:
    """Return a training checkpoint after one step."""
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters())
    net.decoder(net.embedding(torch.tensor([1]))).sum().backward()
    optimizer.step()
    return {"epoch": 3, "loss": 0.25, "model": net.state_dict(), "optimizer": optimizer.state_dict()}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("what", [*NAMES, *(f"{name}, legacy" for name in NAMES if name != "dtypes")])
def test_a_pushed_file_comes_back_byte_by_byte_and_tensor_by_tensor(hub, tmp_path, what):
    path = tmp_path / "file.pt"
    what, legacy = what.partition(",")[0], "," in what  # torch itself cannot read its legacy files of newer dtypes
    torch.save(state_dicts()[what], path, _use_new_zipfile_serialization=not legacy)
    pushed = hub.push(f"e2e/{what}", str(path))
    assert_same(hub.pull(pushed.reference), torch.load(path, weights_only=False))
    (downloaded,) = hub.download(pushed.reference, tmp_path / "out")
    assert sha256(downloaded) == sha256(path)


@pytest.mark.parametrize("what", [name for name in NAMES if name != "views"])
def test_a_live_state_dict_comes_back_tensor_by_tensor(hub, what):
    live = state_dicts()[what]
    assert_same(hub.pull(hub.push(f"e2e/live-{what}", live).reference), OrderedDict(live) if what == "plain" else live)


def test_a_view_is_saved_without_the_rest_of_its_storage(hub):
    row = torch.arange(1_000_000.0).reshape(1000, 1000)[3]
    version = hub.push("e2e/row", {"row": row})
    assert version.size_bytes < 10_000
    assert torch.equal(hub.pull(version.reference)["row"], row)


def test_a_module_is_pushed_as_its_state_dict_and_loads_again(hub):
    net = Net()
    restored = Net()
    restored.load_state_dict(hub.pull(hub.push("e2e/net", net).reference))
    assert_same(restored.state_dict(), net.state_dict())


def test_a_checkpoint_keeps_its_nesting_its_optimizer_and_its_scalars(hub):
    saved = checkpoint()
    version = hub.push("e2e/checkpoint", saved)
    assert_same(hub.pull_checkpoint(version.reference), saved)
    assert_same(hub.pull(version.reference), saved["model"])


def test_of_a_checkpoint_with_an_ema_copy_the_model_is_pulled_unless_the_copy_is_named(hub):
    parts = {"state_dict": {"w": torch.zeros(3)}, "state_dict_ema": {"w": torch.ones(3)}, "epoch": 1}
    version = hub.push("e2e/ema", parts)
    assert torch.equal(hub.pull(version.reference)["w"], torch.zeros(3))
    assert torch.equal(hub.pull(version.reference, part="state_dict_ema")["w"], torch.ones(3))


def test_a_whole_module_gives_its_weights_freely_and_its_code_only_to_who_asks_by_name(hub):
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    version = hub.push("e2e/module", net, as_code=True)
    assert (version.kind, version.trust) == ("module", "code")
    assert_same(dict(hub.pull(version.reference)), dict(net.state_dict()))
    with pytest.raises(TrustCodeRequiredError, match=r"torch\.nn\.modules"):
        hub.load_code(version.reference)
    assert_same(hub.load_code(version.reference, trust_code=True).state_dict(), net.state_dict())


def test_a_sharded_folder_is_one_state_dict(hub, tmp_path):
    folder = tmp_path / "sharded"
    folder.mkdir()
    shards = {"a.safetensors": {"x": torch.rand(3)}, "b.safetensors": {"y": torch.rand(2, 2), "z": torch.ones(1)}}
    for name, tensors in shards.items():
        save_file(tensors, folder / name)
    weight_map = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text("{}")
    version = hub.push("e2e/sharded", str(folder))
    expected = {name: tensor for tensors in shards.values() for name, tensor in tensors.items()}
    assert_same(dict(hub.pull(version.reference)), expected)
    hub.download(version.reference, tmp_path / "out")
    assert {each.name: sha256(each) for each in (tmp_path / "out").iterdir()} == {
        each.name: sha256(each) for each in folder.iterdir()
    }


def test_a_push_by_plan_is_the_same_version_on_every_kind_of_store(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(push, "PLANNED_BYTES", 1)
    torch.save({"w": torch.rand(1000, 300)}, tmp_path / "model.pt")
    version = hub.push("spine/planned", tmp_path / "model.pt", tags={"by": "plan"})

    [back] = hub.download(version.reference, tmp_path / "back")
    assert back.read_bytes() == (tmp_path / "model.pt").read_bytes()
    assert version.artifacts[0].sha256 == "sha256:" + hashlib.sha256(back.read_bytes()).hexdigest()
    assert version.annotations.tags == {"by": "plan"}


def test_the_same_bytes_again_are_a_new_version_of_one_object(hub):
    weights = {"w": torch.rand(100)}
    first, second = hub.push("e2e/twice", weights), hub.push("e2e/twice", weights)
    assert (first.number, second.number) == (1, 2)
    assert first.artifacts[0].sha256 == second.artifacts[0].sha256


def test_an_alias_moves_between_versions_and_remembers(hub):
    one, two = (hub.push("e2e/aliased", {"w": torch.full((2,), value)}) for value in (1.0, 2.0))
    hub.alias(one.reference, "prod", reason="first")
    assert torch.equal(hub.pull("e2e/aliased@prod")["w"], torch.full((2,), 1.0))
    hub.alias(two.reference, "prod", reason="better")
    assert torch.equal(hub.pull("e2e/aliased@prod")["w"], torch.full((2,), 2.0))
    moves = [(move.from_version, move.to_version, move.reason) for move in hub.alias_history("e2e/aliased", "prod")]
    assert sorted(moves, key=lambda move: move[1]) == [(None, 1, "first"), (1, 2, "better")]


def test_training_in_place_on_pulled_tensors_leaves_the_cache_as_it_was(hub):
    version = hub.push("e2e/trained", Net())
    pulled = hub.pull(version.reference)
    pulled["conv.weight"].add_(1)
    assert not torch.equal(hub.pull(version.reference)["conv.weight"], pulled["conv.weight"])
    objects = [each for each in hub.cache_dir.rglob("*") if each.is_file() and len(each.name) == 64]
    assert objects
    assert all(blake3(each.read_bytes()).hexdigest() == each.name for each in objects)


def test_a_harmful_pickle_and_a_broken_file_are_refused_and_leave_no_model(hub, tmp_path):
    marker = tmp_path / "marker"
    hostile = tmp_path / "hostile.pt"
    hostile.write_bytes(b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR.")
    with pytest.raises(UnsafeArtifactError) as refused:
        hub.push("e2e/hostile", str(hostile))
    assert "os.system" in refused.value.extra["globals"]
    text = tmp_path / "model.pt"
    text.write_text("this is no model")
    with pytest.raises(MalformedArtifactError):
        hub.push("e2e/hostile", str(text))
    assert not marker.exists()
    with pytest.raises(ModelNotFoundError):
        hub.show("e2e/hostile")


def test_the_best_version_is_found_by_its_metric(hub):
    for top1 in (0.5, 0.9, 0.7):
        hub.push("e2e/measured", {"w": torch.tensor([top1])}, metrics={"top1": top1}, tags={"data": "digits"})
    assert hub.best("e2e/measured", "top1").number == 2
    ordered = [each.number for each in hub.versions("e2e/measured", sort="-metrics.top1")]
    assert ordered == [2, 3, 1]


def test_a_deleted_version_is_gone_until_it_is_restored(hub):
    version = hub.push("e2e/deleted", {"w": torch.ones(1)})
    again = hub.push("e2e/deleted", {"w": torch.zeros(1)})
    hub.delete(again.reference)
    assert hub.show("e2e/deleted").number == version.number
    hub.restore(again.reference)
    assert hub.show("e2e/deleted").number == again.number


def test_the_service_speaks_of_itself(service: Service, hub):
    assert hub.service().name == "weighbridge"
    assert hub.url == service.url
