"""`weighbridge import` against a real server process, a real web server and caches that their own libraries wrote."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from file_host import file_host
from huggingface_hub import hf_hub_download
from torch import nn
from torchvision.models import SqueezeNet, Weights, WeightsEnum
from torchvision.models._api import BUILTIN_MODELS, register_model
from torchvision.transforms._presets import ImageClassification

from registry.client.client import Client
from registry.importing.local_caches import hub_folder, torch_hub_folder
from registry.module_info import Builder
from registry.torch.published import find_torchvision

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TIMM = "test_resnet.r160_in1k"


@pytest.fixture(autouse=True)
def own_caches(monkeypatch, tmp_path, live_server):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "WEIGHBRIDGE_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WEIGHBRIDGE_URL", live_server.url)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))


@pytest.fixture
def host():
    with file_host() as running:
        yield running


@pytest.fixture
def name(request):
    """A model of this test's own, on a server that tests share."""
    return "imported/" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


def weights_file(value: float = 1.0) -> bytes:
    file = io.BytesIO()
    torch.save({"fc.weight": torch.full((64, 32), value)}, file)
    return file.getvalue()


class TinyNet(nn.Module):
    """An architecture that somebody registered with torchvision."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, num_classes)


@pytest.fixture
def tinynet(host):
    """Published weights of an architecture of torchvision, and the path under which a mirror has them."""
    file = io.BytesIO()
    torch.save(TinyNet().state_dict(), file)
    data = file.getvalue()
    path = f"/models/tinynet-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    meta = {
        "categories": ["cat", "dog", "cow", "owl"],
        "recipe": "https://example.com/recipe",
        "_metrics": {"Farm-1K": {"acc@1": 81.5, "acc@5": 99.0}},
        "_docs": "Trained\n   on a farm.",
    }

    class TinyNet_Weights(WeightsEnum):  # noqa: N801 - as torchvision names them
        FARM1K_V1 = Weights(
            url=f"https://download.pytorch.org{path}",
            transforms=lambda: ImageClassification(crop_size=32, resize_size=40),
            meta=meta,
        )
        DEFAULT = FARM1K_V1

    def tinynet(*, weights: TinyNet_Weights | None = None, progress: bool = True, **kwargs: int) -> TinyNet:
        return TinyNet(**kwargs)

    globals()["tinynet"] = tinynet
    tinynet.__qualname__ = "tinynet"
    register_model()(tinynet)
    host.files[path] = data
    yield path
    BUILTIN_MODELS.pop("tinynet")
    del globals()["tinynet"]


def test_weights_of_torchvision_come_from_a_mirror_with_all_that_is_known_of_them(run, name, host, tinynet):
    ran = run("import", "torchvision:tinynet/FARM1K_V1", name, "--mirror", host.url(), "--json")

    assert ran.code == 0, ran.out
    version = ran.json
    digest = f"sha256:{hashlib.sha256(host.files[tinynet]).hexdigest()}"
    assert [(each["path"], each["sha256"]) for each in version["artifacts"]] == [(tinynet.rpartition("/")[2], digest)]
    assert version["annotations"]["metrics"] == {"acc@1": 81.5, "acc@5": 99.0}
    assert version["builder"] == {"callable": f"{__name__}:tinynet", "arguments": {"num_classes": 4}}
    config = version["pretrained_cfg"]
    assert (config["num_classes"], config["classifier"], config["first_conv"]) == (4, ["fc"], ["conv"])
    assert (config["class_names"], config["input_size"]) == (["cat", "dog", "cow", "owl"], [3, 32, 32])
    assert config["crop_pct"] == 0.8
    assert version["origin"]["source"] == "torchvision:tinynet/FARM1K_V1"
    assert version["origin"]["url"] == host.url(tinynet)
    assert version["origin"]["details"]["about"] == "Trained on a farm."


def test_the_same_thing_again_makes_no_new_version(run, name, host, tinynet):
    first = run("import", "torchvision:tinynet", name, "--mirror", host.url())
    again = run("import", "torchvision:tinynet/FARM1K_V1", name, "--mirror", host.url())

    assert (first.code, first.out) == (0, f"{name}:1\n")
    assert (again.code, again.out) == (0, f"{name}:1\n")
    assert "there already" in again.err
    assert run("import", "torchvision:tinynet", name, "--mirror", host.url(), "--json").json["is_new"] is False


def test_other_versions_between_do_not_hide_that_it_is_there(run, name, host):
    for value in (1.0, 2.0):
        host.files[f"/{value}.pt"] = weights_file(value)
        run("import", host.url(f"/{value}.pt"), name)

    assert run("import", host.url("/1.0.pt"), name).out == f"{name}:1\n"


def test_what_torch_hub_holds_is_not_fetched(run, name, host, tinynet):
    torch_hub_folder().mkdir(parents=True)
    (torch_hub_folder() / tinynet.rpartition("/")[2]).write_bytes(host.files[tinynet])

    ran = run("import", "torchvision:tinynet", name, "--mirror", host.url())

    assert ran.code == 0
    assert host.asked == []


def test_a_damaged_file_of_torch_hub_is_fetched_instead(run, name, host, tinynet):
    torch_hub_folder().mkdir(parents=True)
    (torch_hub_folder() / tinynet.rpartition("/")[2]).write_bytes(b"damaged")

    ran = run("import", "torchvision:tinynet", name, "--mirror", host.url())

    assert ran.code == 0
    assert "is damaged, so it was fetched" in ran.err
    assert len(host.asked) == 1


def test_what_is_not_the_published_file_is_refused(run, name, host):
    """The true names of files hold the true digests, which no file made here has."""
    host.files["/models/resnet18-f37072fd.pth"] = weights_file()

    ran = run("import", "torchvision:resnet18/IMAGENET1K_V1", name, "--mirror", host.url())

    assert ran.code == 6
    assert "f37072fd" in ran.err
    assert run("show", name).code == 4


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("torchvision:resnet51", "resnet50"),
        ("torchvision:resnet50/IMAGENET1K_V3", "IMAGENET1K_V1, IMAGENET1K_V2"),
        ("timm:resnet51", "resnet50"),
        ("timm:resnet18.a9_in1k", "resnet18.a1_in1k"),
        ("hub:org/net", "hf download"),
        ("torchhub:net.pth", "TORCH_HOME"),
    ],
)
def test_what_is_not_published_names_what_is(run, name, source, words):
    ran = run("import", source, name)

    assert ran.code == 4
    assert words in ran.err


@pytest.mark.parametrize(
    ("make", "source", "arguments"),
    [
        (
            lambda: torchvision.models.googlenet(num_classes=1000, init_weights=False),
            "googlenet",
            {"num_classes": 1000, "transform_input": True},
        ),
        (torchvision.models.squeezenet1_1, "squeezenet1_1/IMAGENET1K_V1", {"num_classes": 1000}),
        (
            lambda: torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
                weights_backbone=None, num_classes=21, aux_loss=True
            ),
            "deeplabv3_mobilenet_v3_large",
            {"num_classes": 21, "weights_backbone": None, "aux_loss": True},
        ),
        (
            lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None),
            "lraspp_mobilenet_v3_large",
            {"num_classes": 21, "weights_backbone": None},
        ),
    ],
)
def test_the_builder_of_published_weights_makes_the_module_that_they_fill(tmp_path, make, source, arguments):
    state_dict = {key: value.half() for key, value in make().state_dict().items()}
    torch.save(state_dict, tmp_path / "model.pth")

    described = find_torchvision(source).describe(tmp_path / "model.pth")

    assert (described.builder.arguments, described.notices) == (arguments, [])
    assert described.pretrained_cfg.num_classes == arguments["num_classes"]
    assert len(described.pretrained_cfg.class_names) == arguments["num_classes"]


def test_weights_that_their_library_renames_are_imported_with_a_word_on_it(tmp_path):
    module = SqueezeNet("1_1")
    torch.save({f"old.{key}": value for key, value in module.state_dict().items()}, tmp_path / "model.pth")

    described = find_torchvision("squeezenet1_1").describe(tmp_path / "model.pth")

    assert described.builder == Builder(callable="torchvision.models:squeezenet1_1", arguments={"num_classes": 1000})
    assert "changes them as it loads" in described.notices[0]


@pytest.fixture
def timm_weights(host):
    """Published weights of timm as the Hub serves them."""
    state_dict = timm.create_model(TIMM, num_classes=1000).state_dict()
    data = safetensors.torch.save({key: value.contiguous() for key, value in state_dict.items()})
    path = f"/timm/{TIMM}/resolve/main/model.safetensors"
    host.files[path] = data
    host.headers[path] = {
        "X-Repo-Commit": COMMIT,
        "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"',
        "X-Linked-Size": str(len(data)),
    }
    return path


def check_timm(version):
    assert version["origin"]["source"] == f"timm:{TIMM}"
    assert version["origin"]["license"] == "apache-2.0"
    assert version["builder"]["arguments"] == {"model_name": TIMM, "num_classes": 1000}
    config = version["pretrained_cfg"]
    assert (config["classifier"], config["input_size"], len(config["class_names"])) == (["fc"], [3, 160, 160], 1000)
    assert config["class_names"][0] == "tench, Tinca tinca"


@pytest.mark.parametrize("way", ["mirror", "HF_ENDPOINT"])
def test_weights_of_timm_come_from_the_hub(run, name, host, timm_weights, monkeypatch, way):
    options = ["--mirror", host.url()] if way == "mirror" else []
    monkeypatch.setenv("HF_ENDPOINT", host.url())

    ran = run("import", f"timm:{TIMM}", name, "--json", *options)

    assert ran.code == 0, ran.out
    check_timm(ran.json)


def test_weights_of_timm_in_the_cache_are_not_fetched(run, name, host, timm_weights):
    hf_hub_download(f"timm/{TIMM}", "model.safetensors", endpoint=host.url(), cache_dir=hub_folder())
    host.asked.clear()

    ran = run("import", f"timm:{TIMM}", name, "--mirror", host.url(), "--json")

    assert ran.code == 0, ran.out
    check_timm(ran.json)
    assert ran.json["origin"]["details"]["revision"] == COMMIT
    assert host.asked == []


def test_older_weights_of_the_hub_are_a_pickle(run, name, host, timm_weights):
    state_dict = safetensors.torch.load(host.files.pop(timm_weights))
    file = io.BytesIO()
    torch.save(state_dict, file)
    host.files[timm_weights.replace("model.safetensors", "pytorch_model.bin")] = file.getvalue()

    ran = run("import", f"timm:{TIMM}", name, "--mirror", host.url(), "--json")

    assert ran.json["artifacts"][0]["path"] == "pytorch_model.bin"


def test_a_url_is_imported_and_its_digest_said(run, name, host):
    data = host.files["/net-v1.pt"] = weights_file()
    digits = hashlib.sha256(data).hexdigest()

    ran = run("import", host.url("/net-v1.pt"), name)
    assert (ran.code, ran.out) == (0, f"{name}:1\n")
    assert digits in ran.err

    checked = run("import", host.url("/net-v1.pt"), name, "--sha256", digits.upper(), "--json")
    assert (checked.code, checked.json["is_new"]) == (0, False)
    assert checked.json["origin"]["url"] == host.url("/net-v1.pt")


def test_a_url_with_another_digest_is_refused(run, name, host):
    host.files["/net.pt"] = weights_file()

    assert run("import", host.url("/net.pt"), name, "--sha256", "0" * 64).code == 6
    assert run("import", host.url("/net.pt"), name, "--sha256", "abc").code == 2
    assert run("show", name).code == 4


def test_a_url_that_changed_is_a_new_version(run, name, host):
    for value in (1.0, 2.0):
        host.files["/net.pt"] = weights_file(value)
        assert run("import", host.url("/net.pt"), name).code == 0

    assert run("show", name, "--json").json["number"] == 2


def test_what_would_do_harm_is_refused_by_the_service_and_never_opened(run, name, host, tmp_path):
    class Harm:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'harmed'}",))

    file = io.BytesIO()
    torch.save({"weight": torch.ones(2), "harm": Harm()}, file)
    host.files["/net.pt"] = file.getvalue()

    assert run("import", host.url("/net.pt"), name).code == 6
    assert not (tmp_path / "harmed").exists()


def test_a_folder_is_imported_with_what_its_readme_states(run, name, tmp_path):
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "model.pt").write_bytes(weights_file())
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("---\nlicense: mit\ntags: [vision]\n---\n# Net")
    (folder / ".secret").write_text("x")

    ran = run("import", str(folder), name, "--tag", "data=noise", "--alias", "prod", "--json")

    assert ran.code == 0, ran.out
    assert [each["path"] for each in ran.json["artifacts"]] == ["README.md", "config.json", "model.pt"]
    assert ran.json["origin"] == {"source": "folder:net", "url": None, "license": "mit", "details": {}}
    assert ran.json["annotations"]["tags"] == {"data": "noise", "vision": "true"}
    assert ran.json["aliases"] == ["prod"]
    assert run("import", str(folder), name, "--json").json["is_new"] is False


def test_a_snapshot_of_the_hub_is_imported_whole(run, name, host):
    files = {"config.json": b"{}", "README.md": b"---\nlicense: apache-2.0\n---\n", "model.pt": weights_file()}
    for file, data in files.items():
        path = f"/org/net/resolve/main/{file}"
        host.files[path], host.headers[path] = data, {"X-Repo-Commit": COMMIT}
        hf_hub_download("org/net", file, endpoint=host.url(), cache_dir=hub_folder())

    ran = run("import", "hub:org/net", name, "--json")

    assert ran.code == 0, ran.out
    assert {each["path"]: each["sha256"] for each in ran.json["artifacts"]} == {
        file: f"sha256:{hashlib.sha256(data).hexdigest()}" for file, data in files.items()
    }
    assert ran.json["origin"]["source"] == f"hub:org/net@{COMMIT}"
    assert ran.json["origin"]["license"] == "apache-2.0"


def test_a_file_of_torch_hub_is_imported(run, name):
    torch_hub_folder().mkdir(parents=True)
    (torch_hub_folder() / "net.pth").write_bytes(weights_file())

    ran = run("import", "torchhub:net.pth", name, "--json")

    assert (ran.code, ran.json["origin"]["source"]) == (0, "torchhub:net.pth")


def test_several_sources_get_names_of_their_own(run, name, host, monkeypatch):
    team = "team-" + name.rpartition("/")[2]
    for file in ("first.pt", "second.pt", "third.pt"):
        host.files[f"/{file}"] = weights_file()

    ran = run("import", *(host.url(f"/{file}") for file in ("first.pt", "second.pt", "third.pt")), "--team", team)
    assert ran.out == f"{team}/first:1\n{team}/second:1\n{team}/third:1\n"

    pair = run("import", host.url("/first.pt"), host.url("/second.pt"), "--team", team, "--json").json
    assert [each["is_new"] for each in pair] == [False, False]


def test_a_second_word_is_the_model(run, name, host):
    host.files["/net.pt"] = weights_file()

    assert run("import", host.url("/net.pt"), f"{name}:3").code == 2
    assert run("import", host.url("/net.pt"), name).out == f"{name}:1\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("resnet50",),
        ("http://example.com/net.pt",),
        ("https://me:secret@example.com/net.pt",),
        ("torchvision:resnet18", "--sha256", "0" * 64),
        ("torchvision:resnet18", "--mirror", "http://example.com"),
        ("torchvision:resnet18", "timm:resnet18", "--alias", "prod"),
    ],
)
def test_what_cannot_be_understood_ends_with_2(run, arguments):
    assert run("import", *arguments).code == 2


def test_a_killed_import_is_continued(run, name, host, tmp_path):
    data = host.files["/net.safetensors"] = safetensors.torch.save({"w": torch.randn(1_000_000)})
    host.cut_after, host.cuts_left = 2_000_000, 1
    host.on_cut = lambda: time.sleep(30)
    process = subprocess.Popen(
        [Path(sys.executable).with_name("weighbridge"), "import", host.url("/net.safetensors"), name]
    )
    part = None
    while part is None or part.stat().st_size < host.cut_after:
        assert process.poll() is None
        part = next((tmp_path / "user-cache").rglob("*.part"), None)
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    host.on_cut = None

    ran = run("import", host.url("/net.safetensors"), name, "--json")

    assert ran.json["artifacts"][0]["sha256"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert host.ranges("/net.safetensors")[-1] == f"bytes={host.cut_after}-"


def test_an_error_in_json_is_a_problem_document(run, name):
    ran = run("import", "torchhub:none.pth", name, "--json")
    assert (ran.code, json.loads(ran.out)["code"]) == (4, "not_found")


def test_show_says_where_it_came_from(run, name, host, tinynet, live_server):
    run("import", "torchvision:tinynet", name, "--mirror", host.url())

    shown = run("show", name).out
    assert "torchvision:tinynet/FARM1K_V1" in shown
    with Client(live_server.url) as hub:
        assert hub.show(name).origin.source == "torchvision:tinynet/FARM1K_V1"
