"""Loading from a real server: into modules that exist, and into modules that are built for it."""

import hashlib
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import timm
import torch
import transformers
from cutting_proxy import cutting_proxy
from module_state import state_of
from small_nets import Net
from support.service import running
from torch import nn

from registry.architecture import Architecture
from registry.client import transfer, transport
from registry.client.check import CheckWishes, Weights, compare_weights
from registry.client.client import Client
from registry.client.pull import DeprecatedVersionWarning
from registry.errors import (
    InvalidRequestError,
    OfflineError,
    ServerUnreachableError,
    StateDictMismatchError,
    TrustCodeRequiredError,
    UnsupportedValueError,
)
from registry.module_info import Builder, PretrainedConfig
from registry.torch.architecture import architecture_of


@pytest.fixture
def hub(live_server):
    with Client(live_server.url, progress=False) as client:
        yield client


@pytest.fixture
def name(request):
    """A model of this test's own, on a server that tests share."""
    return "vision/" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


class Width(nn.Module):
    """Needs to be told how wide it is, and holds a table that no state_dict has."""

    def __init__(self, width=3):
        super().__init__()
        self.linear = nn.Linear(2, width)
        self.register_buffer("table", torch.arange(4.0), persistent=False)
        self.scale = torch.tensor(2.0)

    def forward(self, values):
        return self.linear(values).sum() * self.table.sum() * self.scale


def equal(module, other):
    return all(torch.equal(value, other.state_dict()[key]) for key, value in module.state_dict().items())


def test_a_version_is_loaded_and_its_weights_are_fetched_only_when_they_fit(hub, name, live_server, tmp_path):
    source, module = Net(), Net()
    hub.push(name, source, alias="best")
    with Client(live_server.url, cache_dir=tmp_path / "new", progress=False) as fresh:
        with pytest.raises(StateDictMismatchError, match=f"{name}:1 was not loaded into module"):
            fresh.load_into(name, Net(classes=3))
        kept = [path for path in fresh.cache_dir.rglob("*") if path.is_file()]
        assert not [path for path in kept if "manifests" not in path.parts and path.stat().st_size > 2500]
        result = fresh.load_into(f"{name}@best", module)
    assert equal(module, source)
    assert result.report.source == f"{name}:1"


def test_a_deprecated_version_warns_and_is_loaded(hub, name):
    hub.push(name, Net())
    hub.annotate(f"{name}:1", deprecated="trained on the test set")
    with pytest.warns(DeprecatedVersionWarning, match="trained on the test set"):
        hub.load_into(f"{name}:1", Net())


def test_offline_nothing_changes_when_the_cache_does_not_hold_it(hub, name, live_server, tmp_path):
    hub.push(name, Net())
    module, cache = Net(), tmp_path / "new"
    before = state_of(module)
    with Client(live_server.url, cache_dir=cache, progress=False) as fresh:
        fresh.check(name, module)
    with Client(live_server.url, cache_dir=cache, offline=True) as offline, pytest.raises(OfflineError):
        offline.load_into(name, module)
    assert state_of(module) == before


def test_a_server_that_is_killed_in_mid_pull_leaves_the_module_as_it_was(tmp_path, monkeypatch):
    # How often it is tried again is tested elsewhere.
    monkeypatch.setattr(transfer, "MAX_FAILURES", 2)
    monkeypatch.setattr(transport, "ATTEMPTS", 2)
    source, module = nn.Linear(2000, 2000), nn.Linear(2000, 2000)
    before = state_of(module)
    with running(tmp_path, [sys.executable, "-m", "api", "serve"]) as service:
        with Client(service.url, progress=False) as client:
            client.push("vision/large", source)
        behind = SimpleNamespace(host_and_port=service.url.removeprefix("http://"))
        with cutting_proxy(behind) as proxy, Client(proxy.endpoint_url, cache_dir=tmp_path / "new") as fresh:
            assert fresh.check("vision/large", module).loads
            proxy.cut_after_bytes, proxy.cuts_left = 1 << 20, 1

            def kill():
                while not proxy.cuts_made:
                    time.sleep(0.01)
                os.kill(service.pid, signal.SIGKILL)

            killer = threading.Thread(target=kill)
            killer.start()
            with pytest.raises(ServerUnreachableError):
                fresh.load_into("vision/large", module)
            killer.join()
            assert proxy.cuts_made == 1
    assert state_of(module) == before


def test_a_module_is_built_by_its_recorded_builder_and_computes_the_same(hub, name):
    source = timm.create_model("test_vit", num_classes=5).eval()
    hub.push(name, source)
    module = hub.load(name, eval=True)
    assert type(module) is type(source)
    assert not module.training
    assert hub.load(name).training
    images = torch.randn(1, 3, 160, 160)
    assert torch.equal(module(images), source(images))


def llama():
    config = transformers.LlamaConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=20
    )
    return transformers.LlamaForCausalLM(config)


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20))


@pytest.mark.parametrize("make", [llama, gpt2])
def test_tables_that_no_state_dict_holds_are_right_and_ties_are_ties(hub, name, make):
    source = make().eval()
    hub.push(name, source)
    module = hub.load(name, eval=True)
    tied = {spec.tie for spec in architecture_of(source).tensors.values()}
    assert {spec.tie for spec in architecture_of(module).tensors.values()} == tied
    tokens = torch.arange(6)[None]
    assert torch.equal(module(tokens).logits, source(tokens).logits)


def test_the_random_numbers_that_follow_stay_the_same(hub, name):
    hub.push(name, timm.create_model("test_resnet"))
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    hub.load(name)
    assert torch.equal(torch.rand(1), expected)


def test_the_dtype_of_a_built_module_may_be_chosen(hub, name):
    hub.push(name, timm.create_model("test_resnet"))
    module = hub.load(name, dtype="bfloat16", device="cpu")
    assert {each.dtype for each in module.parameters()} == {torch.bfloat16}
    assert module(torch.randn(1, 3, 64, 64, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_class_of_ones_own_is_built_with_what_it_needs(hub, name, tmp_path):
    source = Width(7)
    hub.push(name, source, builder=Builder(callable=f"{Width.__module__}:Width", arguments={"width": 7}))
    values = torch.ones(2)
    for builder in (Width, lambda: Width(width=7)):
        module = hub.load(name, builder=builder)
        assert torch.equal(module(values), source(values))
        assert not any(each.is_meta for each in module.parameters())
    path = tmp_path / "local.pt"
    torch.save(source.state_dict(), path)
    assert equal(hub.load(path, builder=lambda: Width(7)), source)
    with pytest.raises(StateDictMismatchError, match=r"linear\.weight is \[7, 2\]"):
        hub.load(path, builder=Width)


def test_a_builder_of_no_known_library_is_not_called_unless_trusted(hub, name, tmp_path, monkeypatch):
    (tmp_path / "somebodys.py").write_text(
        "from torch import nn\n\n\ndef make(width):\n    return nn.Linear(2, width)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    source = nn.Linear(2, 5)
    hub.push(name, source, builder={"callable": "somebodys:make", "arguments": {"width": 5}})
    with pytest.raises(TrustCodeRequiredError):
        hub.load(name)
    assert "somebodys" not in sys.modules
    assert equal(hub.load(name, trust_builder=True), source)
    assert equal(hub.load(name, builder=Builder(callable="torch.nn:Linear", arguments=LINEAR)), source)


LINEAR = {"in_features": 2, "out_features": 5}


@pytest.mark.parametrize(
    ("builder", "said"),
    [
        (None, "builder=MyNet"),
        (Net(), "load_into"),
        ("resnet50", "module.path:callable"),
        (lambda: 7, "made a int and no nn.Module"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (nn.Linear, "could not be built: TypeError"),
    ],
)
def test_a_builder_that_cannot_be_used_is_said_what_to_do_about(hub, tmp_path, builder, said):
    path = tmp_path / "net.pt"
    torch.save(Net().state_dict(), path)
    with pytest.raises(InvalidRequestError, match=said):
        hub.load(path, builder=builder)


def test_a_builder_that_is_not_installed_is_named(hub, tmp_path):
    path = tmp_path / "net.pt"
    torch.save(Net().state_dict(), path)
    with pytest.raises(UnsupportedValueError, match="not_there"):
        hub.load(path, builder="not_there:Net", trust_builder=True)


@pytest.mark.parametrize(("recorded", "warns"), [("test_resnet", False), ("resnet18", True)])
def test_another_recorded_builder_is_a_warning_in_every_check(hub, name, recorded, warns):
    module = timm.create_model("test_resnet")
    builder = Builder(callable="timm:create_model", arguments={"model_name": recorded})
    hub.push(name, module.state_dict(), builder=builder)
    notices = hub.check(name, module).notices
    assert any(each.startswith("Warning: the weights were recorded as of timm:") for each in notices) is warns
    assert not any("Warning" in each for each in hub.check(name, architecture_of(module)).notices)


def described(**given):
    with torch.device("meta"):
        source = Net()
    return Weights("REF", architecture_of(source), described=PretrainedConfig(**given))


def test_the_recorded_head_is_the_head_unless_the_caller_knows_better():
    report = compare_weights(described(classifier=["fc"]), Net(), CheckWishes())
    assert (report.head, report.head_guessed) == (["fc"], False)
    report = compare_weights(described(classifier=["fc"]), Net(), CheckWishes(classifier=("layers.2.conv",)))
    assert report.head == ["layers.2.conv"]
    assert compare_weights(described(classifier=["gone"]), Net(), CheckWishes()).head_guessed


def test_the_recorded_first_convolution_is_found_under_the_targets_names():
    class Inside(nn.Module):
        def __init__(self):
            super().__init__()
            self.pre = nn.Conv2d(1, 1, 3)
            self.encoder = Net()
            self.encoder.stem = nn.Conv2d(1, 4, 3)

    report = compare_weights(described(first_conv=["stem"]), Inside(), CheckWishes())
    assert [(each.name, each.adapter) for each in report.mismatched] == [("encoder.stem.weight", "adapt_first_conv")]
    assert not report.renames.is_identity


def test_the_printed_call_says_again_what_the_check_was_told(hub, tmp_path):
    source, module, path = Net(), Net(), str(tmp_path / "net.pt")
    torch.save({"model": {f"a.{key}": value for key, value in source.state_dict().items()}, "ema": {}}, path)
    report = hub.check(path, module, part="model", prefix=("a.", ""), rename={"fc.": "fc."})
    (line,) = [line.strip() for line in str(report).splitlines() if line.strip().startswith("hub.")]
    assert line == f"hub.load_into({path!r}, module, part='model', prefix=('a.', ''), rename={{'fc.': 'fc.'}})"
    eval(line)  # noqa: S307 - what was printed, as a user would
    assert equal(module, source)
    with torch.device("meta"):
        module = Net()
    text = str(hub.check(path, module, part="model"))
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith("hub.")]
    eval(line)  # noqa: S307 - as above
    assert equal(module, source)


def test_architectures_of_other_sides_need_no_builder():
    empty = Weights("REF", Architecture([]), builder=Builder(callable="timm:create_model"))
    assert compare_weights(empty, Net(), CheckWishes()).verdict == "incompatible"
