"""torch itself is the ground truth of everything here; the code under test gets it taken away while it runs."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from registry.client.client import Client
from registry.torch.load import load_checkpoint, load_state_dict


@pytest.fixture
def no_unpickling(monkeypatch):
    """Return a context in which everything that unpickles raises."""

    def refuse(*_args, **_options):
        raise AssertionError("something was unpickled")

    class Guard:
        def __enter__(self):
            self._patch = pytest.MonkeyPatch()
            for owner, name in (
                (torch, "load"),
                (torch.jit, "load"),
                (pickle, "load"),
                (pickle, "loads"),
                (pickle, "Unpickler"),
                (pickle, "_Unpickler"),
            ):
                self._patch.setattr(owner, name, refuse)

        def __exit__(self, *_):
            self._patch.undo()

    return Guard()


@pytest.fixture
def load(no_unpickling):
    """`load_state_dict` of one or several files, with unpickling taken away."""

    def call(*files, **options):
        with no_unpickling:
            return load_state_dict(files, **options)

    return call


@pytest.fixture
def checkpoint_of(no_unpickling):
    """`load_checkpoint`, with unpickling taken away."""

    def call(file, **options):
        with no_unpickling:
            return load_checkpoint(file, **options)

    return call


@pytest.fixture
def save(tmp_path):
    """Save by `torch.save` into a fresh file and return its path."""

    def call(value, name="truth.pt", **options):
        path = tmp_path / name
        torch.save(value, path, **options)
        return path

    return call


@pytest.fixture(scope="session")
def truth():
    """What torch itself makes of a file, every byte of it."""

    def call(path):
        return torch.load(path, weights_only=False)

    return call


@pytest.fixture(scope="session")
def sha256():
    def call(path: Path):
        return hashlib.sha256(path.read_bytes()).hexdigest()

    return call


@pytest.fixture(scope="session")
def assert_same():
    """Compare values as deep as they go: types, dtypes, bits, shapes, strides, gradients, order of keys."""
    return _assert_same


def _assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        _assert_same_tensor(found, expected)
    elif isinstance(expected, Mapping):
        assert list(found) == list(expected)
        for key in expected:
            _assert_same(found[key], expected[key])
        if hasattr(expected, "__dict__"):
            _assert_same(vars(found), vars(expected))
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            _assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, np.generic):
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()
    elif isinstance(expected, torch.storage.TypedStorage | torch.UntypedStorage):
        assert found.tolist() == expected.tolist()
    else:
        assert found == expected or (found != found and expected != expected)  # noqa: PLR0124 - NaN


def _assert_same_tensor(found, expected):
    if expected.is_nested:
        assert found.is_nested
        for one, other in zip(found.unbind(), expected.unbind(), strict=True):
            _assert_same_tensor(one, other)
        return
    facts = ("dtype", "shape", "layout", "requires_grad", "is_quantized", "is_nested", "device")
    assert [getattr(found, fact) for fact in facts] == [getattr(expected, fact) for fact in facts]
    assert (found.is_conj(), found.is_neg()) == (expected.is_conj(), expected.is_neg())
    _assert_same(
        {name: each for name, each in vars(found).items() if name != "_backward_hooks"},
        {name: each for name, each in vars(expected).items() if name != "_backward_hooks"},
    )
    if expected.layout != torch.strided:
        assert str(found) == str(expected)
        return
    assert found.stride() == expected.stride()
    if expected.is_quantized:
        assert found.qscheme() == expected.qscheme()
        assert torch.equal(found.dequantize(), expected.dequantize())
        return
    if not expected.is_meta:
        assert _bits(found) == _bits(expected)


def _bits(tensor):
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return plain.as_strided((plain.numel(),), (1,)).view(torch.uint8).numpy().tobytes()


@pytest.fixture
def hub(tmp_path):
    with Client("http://127.0.0.1:9", cache_dir=tmp_path / "cache", progress=False) as client:
        yield client


@pytest.fixture
def saved(tmp_path):
    """Return the path of what `torch.save` wrote, other values than any new module has."""

    def save(value):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.pt"
        torch.save(value.state_dict() if isinstance(value, nn.Module) else value, path)
        return str(path)

    return save
