import hashlib
import importlib
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from registry.errors import (
    DigestMismatchError,
    InvalidRequestError,
    TrustCodeRequiredError,
    UnsafeArtifactError,
    UnsupportedValueError,
)
from registry.torch import code
from registry.torch.code import load_code
from registry.torch.load import load_state_dict

NET = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(2, 3)
            self.register_buffer("scale", torch.ones(3))

        def forward(self, x):
            return self.body(x) * self.scale
"""


@pytest.fixture
def importable(tmp_path, monkeypatch):
    """A module `nets` in an importable file, gone from memory afterwards."""
    (tmp_path / "nets.py").write_text(textwrap.dedent(NET))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("nets")
    sys.modules.pop("nets", None)


@pytest.fixture
def made_in_main(tmp_path):
    """A module pickled by a script, so that its class is `__main__.Net`."""
    path = tmp_path / "main.pt"
    script = textwrap.dedent(NET) + f"\ntorch.manual_seed(0)\ntorch.save(Net(), {str(path)!r})\n"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=100)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_a_module_of_an_importable_class_opens_as_itself(save, importable, assert_same, legacy):
    net = importable.Net()
    path = save(net, _use_new_zipfile_serialization=not legacy)

    opened = load_code(path, trust_code=True)

    assert type(opened) is importable.Net
    assert_same(opened.state_dict(), net.state_dict())


def test_a_class_of_main_is_given_by_name(made_in_main, importable, assert_same):
    opened = load_code(made_in_main, trust_code=True, classes={"__main__.Net": importable.Net})

    assert type(opened) is importable.Net
    assert_same(opened.state_dict(), load_state_dict([made_in_main]))


def test_a_class_that_is_not_there_says_how_to_give_it(made_in_main):
    with pytest.raises(UnsupportedValueError, match=r"classes=\{\"__main__\.Net\": Net\}"):
        load_code(made_in_main, trust_code=True)


def test_a_module_that_cannot_be_imported_says_how_to_give_it(save, importable):
    path = save(importable.Net())
    del sys.modules["nets"]
    importlib.invalidate_caches()
    path.with_name("nets.py").unlink()

    with pytest.raises(UnsupportedValueError, match=r"nets\.Net"):
        load_code(path, trust_code=True)


@pytest.mark.parametrize("trust", [False, 1, "yes"])
def test_without_trust_the_globals_are_listed_and_nothing_runs(save, importable, trust):
    path = save(importable.Net())

    with pytest.raises(TrustCodeRequiredError, match=r"nets\.Net.*pull") as caught:
        load_code(path, trust_code=trust)

    assert "nets.Net" in caught.value.extra["globals"]


def test_what_holds_no_code_is_not_unpickled(save):
    with pytest.raises(InvalidRequestError, match="pull"):
        load_code(save({"weight": torch.ones(1)}), trust_code=True)


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


def test_an_unsafe_file_is_never_opened(save):
    with pytest.raises(UnsafeArtifactError):
        load_code(save({"weight": torch.ones(1), "x": Harmful()}), trust_code=True)


def test_a_global_that_the_reader_did_not_see_is_not_reached(save, importable, monkeypatch):
    path = save(importable.Net())
    known = code._pickle_module

    monkeypatch.setattr(code, "_pickle_module", lambda _known, classes: known([], classes))

    with pytest.raises(UnsupportedValueError, match="was not seen"):
        load_code(path, trust_code=True)


def test_other_bytes_than_announced_are_not_opened(save, importable):
    path = save(importable.Net())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    assert isinstance(load_code(path, trust_code=True, sha256=f"sha256:{digest}"), nn.Module)
    with pytest.raises(DigestMismatchError):
        load_code(path, trust_code=True, sha256="0" * 64)


def test_the_format_that_was_announced_must_be_the_one_found(save, importable):
    with pytest.raises(InvalidRequestError, match="torch-zip"):
        load_code(save(importable.Net()), "torchscript", trust_code=True)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_module_opens_as_torchscript(tmp_path):
    path = tmp_path / "scripted.pt"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)

    opened = load_code(path, "torchscript", trust_code=True)

    assert opened(torch.ones(1, 2)).shape == (1, 2)


def test_the_device_plays_map_location(save, importable):
    opened = load_code(save(importable.Net()), trust_code=True, device="meta")

    assert opened.body.weight.is_meta
