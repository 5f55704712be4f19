"""The weights of every kind of file come out through the service, nothing of it is run, and nobody need trust it.

The files are real ones. Their classes leave a mark when they are imported, or given a state; TorchScript's prints a
word; and Python itself tells when any pickle looks a name up.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import small_nets
import torch
from equality import assert_same
from safetensors.torch import save_file
from support.service import Service
from tar_files import members_of, pack
from torch import nn
from torch.package import PackageExporter, PackageImporter

from weighbridge import Client

# TorchScript and torch.package are on their way out of torch; their files outlive them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

PRIVATE = """
import os
import small_nets

def mark():
    open({marker!r}, "a").close()

mark()

class Net(small_nets.Net):
    def __setstate__(self, state):
        mark()
        super().__setstate__(state)

class Config:
    def __setstate__(self, state):
        mark()
"""


class Loud(nn.Module):
    """Says so when TorchScript loads it."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value

    @torch.jit.export
    def __getstate__(self) -> int:
        return 3

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        print("TorchScript ran", state)  # noqa: T201 - how the test learns of it
        self.training = False


class Scripted(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.loud = Loud()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.loud(self.net(images))


IMAGES = torch.ones(1, 3, 8, 8)
Write = Callable[[ModuleType, nn.Module, Path], None]


def zipped(private: ModuleType, net: nn.Module, path: Path) -> None:
    torch.save(net, path)


def legacy(private: ModuleType, net: nn.Module, path: Path) -> None:
    torch.save(net, path, _use_new_zipfile_serialization=False)


def state_dict(private: ModuleType, net: nn.Module, path: Path) -> None:
    torch.save(net.state_dict(), path)


def legacy_state_dict(private: ModuleType, net: nn.Module, path: Path) -> None:
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)


def parallel(private: ModuleType, net: nn.Module, path: Path) -> None:
    torch.save(nn.DataParallel(net), path)


def compiled(private: ModuleType, net: nn.Module, path: Path) -> None:
    torch.save(torch.compile(net), path)


def safetensors(private: ModuleType, net: nn.Module, path: Path) -> None:
    save_file(net.state_dict(), path)


def scripted(private: ModuleType, net: nn.Module, path: Path) -> None:
    plain = small_nets.Net()
    plain.load_state_dict(net.state_dict())
    torch.jit.script(Scripted(plain).eval()).save(path)


def traced(private: ModuleType, net: nn.Module, path: Path) -> None:
    torch.jit.trace(net.eval(), IMAGES).save(path)


def exported(private: ModuleType, net: nn.Module, path: Path) -> None:
    torch.export.save(torch.export.export(net.eval(), (IMAGES,)), path)


def packaged(private: ModuleType, net: nn.Module, path: Path) -> None:
    with PackageExporter(path) as exporter:
        exporter.intern("private_net")
        exporter.extern(["small_nets", "torch.**", "os"])
        exporter.save_pickle("net", "model.pkl", net)


def tar(private: ModuleType, net: nn.Module, path: Path) -> None:
    path.write_bytes(pack(members_of(net.state_dict())))


def foreign(private: ModuleType, net: nn.Module, path: Path) -> None:
    config = private.Config()
    config.width = 4
    torch.save({"state_dict": net.state_dict(), "config": config, "epoch": 3}, path)


def namespace(private: ModuleType, net: nn.Module, path: Path) -> None:
    torch.save({"model": net.state_dict(), "args": argparse.Namespace(lr=0.1, out=Path("run"))}, path)


def loaded_module(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=False).state_dict())


def loaded_member(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, Any] = torch.load(path, weights_only=False)
    return dict(found.get("state_dict") or found.get("model") or found)


def loaded_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def loaded_script(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.jit.load(path).state_dict())


def loaded_program(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.export.load(path).state_dict)


def loaded_package(path: Path) -> dict[str, torch.Tensor]:
    return dict(PackageImporter(path).load_pickle("net", "model.pkl").state_dict())


# kind of file: its name, how it is written, how torch itself reads the state_dict, trust, whether loading it runs code
FORMATS: dict[str, tuple[str, Write, Callable[[Path], dict[str, torch.Tensor]], str, bool]] = {
    "state_dict": ("a.pt", state_dict, loaded_member, "tensors", False),
    "legacy state_dict": ("a.pt", legacy_state_dict, loaded_member, "tensors", False),
    "safetensors": ("a.safetensors", safetensors, loaded_safetensors, "tensors", False),
    "tar": ("a.pt", tar, loaded_member, "tensors", False),
    "module": ("a.pt", zipped, loaded_module, "code", True),
    "legacy module": ("a.pt", legacy, loaded_module, "code", True),
    "module of DataParallel": ("a.pt", parallel, loaded_module, "code", True),
    "compiled module": ("a.pt", compiled, loaded_module, "code", True),
    "TorchScript, scripted": ("a.pt", scripted, loaded_script, "code", True),
    "TorchScript, traced": ("a.pt", traced, loaded_script, "code", False),
    "torch.export": ("a.pt2", exported, loaded_program, "code", False),
    "torch.package": ("a.pt", packaged, loaded_package, "code", True),
    "checkpoint with foreign classes": ("a.ckpt", foreign, loaded_member, "code", True),
    "checkpoint with a namespace": ("a.pth", namespace, loaded_member, "code", False),
}
NO_PICKLE = {"safetensors", "TorchScript, scripted", "TorchScript, traced", "torch.export", "torch.package"}
"""What torch reads without Python's own unpickler."""


class Watch:
    """What was run: marks on the disk, words printed, names looked up by pickles."""

    def __init__(self, marker: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self._marker = marker
        self._capfd = capfd
        self._on = False
        self._looked_up: list[object] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._on and event == "pickle.find_class":
            self._looked_up.append(arguments)

    @contextmanager
    def watching(self) -> Iterator[list[object]]:
        """Give a list that holds, after the block, what was run in it."""
        sys.modules.pop("private_net", None)
        self._marker.unlink(missing_ok=True)
        self._capfd.readouterr()
        found: list[object] = []
        self._looked_up, self._on = found, True
        try:
            yield found
        finally:
            self._on = False
        found += ["the mark"] if self._marker.exists() else []
        found += ["TorchScript"] if "TorchScript ran" in self._capfd.readouterr().out else []


@pytest.fixture
def hub(live_server: Service, tmp_path: Path) -> Iterator[Client]:
    """One installation will do: what a file is does not depend on where its bytes are kept."""
    with Client(live_server.url, cache_dir=tmp_path / "cache", progress=False) as client:
        yield client


@pytest.fixture
def watch(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    (tmp_path / "private_net.py").write_text(PRIVATE.format(marker=str(tmp_path / "marker")))
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("private_net", None)
    yield Watch(tmp_path / "marker", capfd)
    sys.modules.pop("private_net", None)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_state_dict_comes_out_of_every_kind_of_file_with_nothing_run(hub, tmp_path, watch, kind):
    name, write, load, trust, runs_code = FORMATS[kind]
    torch.manual_seed(7)
    import private_net

    write(private_net, private_net.Net(), tmp_path / name)
    target = small_nets.Net()

    with watch.watching() as run:
        version = hub.push(f"e2e/{kind.replace(' ', '-').replace(',', '').lower()}", str(tmp_path / name))
        pulled = hub.pull(version.reference)
        if "scripted" not in kind:
            hub.load_into(version.reference, target)
    assert run == []
    assert version.trust == trust
    assert bool(version.artifacts[0].reasons) is (trust == "code")

    with watch.watching() as run, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = load(tmp_path / name)
    assert bool([each for each in run if isinstance(each, str)]) is runs_code, "torch runs its code: the watch works"
    assert bool([each for each in run if isinstance(each, tuple)]) is (kind not in NO_PICKLE)
    assert pulled.keys() == expected.keys()
    assert_same({key: pulled[key] for key in expected}, expected)
    if "scripted" not in kind:
        values = {key.removeprefix("module.").removeprefix("_orig_mod."): each for key, each in expected.items()}
        assert_same(dict(target.state_dict()), {key: values[key] for key in target.state_dict()})
