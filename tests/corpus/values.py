"""What people keep in weight files, small: state_dicts and checkpoints of the shapes that real projects write."""

import argparse
import collections
import datetime as dt
import decimal
import fractions
import pathlib
import types
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn, optim

PLAIN = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128,
)  # fmt: skip
UNTYPED = (
    torch.float8_e5m2, torch.float8_e4m3fn, torch.float8_e5m2fnuz, torch.float8_e4m3fnuz, torch.float8_e8m0fnu,
    torch.uint16, torch.uint32, torch.uint64, torch.complex32, torch.float4_e2m1fn_x2,
)  # fmt: skip


def filled(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Return a tensor of bytes that count up."""
    count = int(np.prod(shape, dtype=np.int64))
    if dtype is torch.bool:
        return (torch.arange(count) % 2 == 0).reshape(shape)
    return (torch.arange(count * dtype.itemsize) % 64).to(torch.uint8).view(dtype).reshape(shape)


def seeded(make: Callable[[], Any]) -> Any:
    """Return the value that `make` makes, with the same random numbers at each call."""
    torch.manual_seed(0)
    return make()


def net() -> nn.Module:
    """Return a small convolutional network."""
    return nn.Sequential(
        OrderedDict(stem=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), act=nn.ReLU(), fc=nn.Linear(4, 2))
    )


def trained(make: Callable[..., optim.Optimizer], **settings: Any) -> tuple[nn.Module, optim.Optimizer]:
    """Return a module and an optimizer that made one step on it."""
    module = nn.Linear(4, 2)
    optimizer = make(module.parameters(), **settings)
    module(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    return module, optimizer


def _checkpoint(make: Callable[..., optim.Optimizer], **settings: Any) -> dict[str, Any]:
    module, optimizer = trained(make, **settings)
    schedule = optim.lr_scheduler.StepLR(optimizer, 3)
    states = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict()}
    return {**states, "epoch": 3, "best": 0.75}


def _scheduler(make: Callable[[optim.Optimizer], Any]) -> dict[str, Any]:
    module, optimizer = trained(optim.SGD, lr=0.1, momentum=0.9)
    return {"state_dict": module.state_dict(), "scheduler": make(optimizer).state_dict()}


def _views() -> dict[str, torch.Tensor]:
    base = torch.arange(24.0).reshape(4, 6)
    every = {"t": base.t(), "row": base[1], "column": base[:, 2], "block": base[1:3, 2:5], "step": base[::2]}
    return {
        **every,
        "wide": base[0].expand(3, 6),
        "flat": base.reshape(-1),
        "permuted": base.reshape(2, 2, 6).permute(2, 0, 1),
    }


def _sparse(layout: torch.layout) -> dict[str, torch.Tensor]:
    dense = torch.tensor([[0.0, 1, 0, 2], [0, 0, 3, 0], [4, 0, 0, 0], [0, 0, 0, 5]])
    if layout is torch.sparse_coo:
        return {"w": dense.to_sparse().coalesce(), "b": torch.ones(2)}
    blocks = {"blocksize": (2, 2)} if layout in {torch.sparse_bsr, torch.sparse_bsc} else {}
    return {"w": dense.to_sparse(layout=layout, **blocks), "b": torch.ones(2)}


def _quantised() -> dict[str, torch.Tensor]:
    weight = torch.linspace(-1, 1, 8).reshape(2, 4)
    scales, zeros = torch.tensor([0.1, 0.2], dtype=torch.float64), torch.tensor([0, 1])
    return {
        "per_tensor": torch.quantize_per_tensor(weight, 0.05, 3, torch.quint8),
        "signed": torch.quantize_per_tensor(weight, 0.05, 0, torch.qint8),
        "wide": torch.quantize_per_tensor(weight, 0.05, 0, torch.qint32),
        "per_channel": torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8),
    }


def _lightning() -> dict[str, Any]:
    module, optimizer = trained(optim.AdamW, lr=0.01)
    prefixed = OrderedDict((f"model.{name}", value) for name, value in module.state_dict().items())
    callback = {
        "monitor": "val_loss",
        "best_model_score": torch.tensor(0.5),
        "kth_best_model_path": "",
        "kth_value": torch.tensor(1.0),
    }
    return {
        "epoch": 4, "global_step": 100, "pytorch-lightning_version": "2.6.6", "state_dict": prefixed,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 5, "completed": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": callback},
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [],
        "hparams_name": "kwargs", "hyper_parameters": {"lr": 0.01, "layers": [4, 2], "name": "net"},
    }  # fmt: skip


def _trainer() -> dict[str, Any]:
    module, _ = trained(optim.AdamW, lr=5e-5)
    return {**{f"bert.{name}": value for name, value in module.state_dict().items()}, "lm_head.weight": module.weight}


def _ema() -> dict[str, Any]:
    module = net()
    return {"state_dict": module.state_dict(), "state_dict_ema": net().state_dict(), "ema_decay": 0.999}


def _tied() -> dict[str, torch.Tensor]:
    weight = torch.arange(12.0).reshape(3, 4)
    return {"embed.weight": weight, "head.weight": weight, "half": weight[1:]}


class _Named(OrderedDict[str, Any]):
    """A state_dict of somebody's own class."""


def _flags() -> dict[str, torch.Tensor]:
    numbers = filled(torch.complex64, 4)
    return {"conj": numbers.conj(), "neg": torch._neg_view(torch.ones(3)), "plain": numbers}


def _nested_tensor() -> dict[str, torch.Tensor]:
    return {"n": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])}


def _numpy_scalars() -> dict[str, Any]:
    names = ("float32", "float64", "float16", "int64", "int32", "int8", "uint8", "uint16", "bool_")
    return {"w": torch.ones(2), "metrics": {name: getattr(np, name)(1) for name in names}}


def _numpy_arrays() -> dict[str, Any]:
    arrays = {"f": np.ones((2, 3), np.float32), "i": np.arange(3), "fortran": np.asfortranarray(np.ones((2, 3)))}
    return {"w": torch.ones(2), "arrays": arrays, "big": np.ones(2, ">f8")}


def _random_state() -> dict[str, Any]:
    return {
        "w": torch.ones(2),
        "rng": torch.get_rng_state(),
        "numpy": np.random.RandomState(0).get_state(),
        "python": (3, (1, 2), None),
    }


_OPTIMIZERS: dict[str, tuple[Callable[..., optim.Optimizer], dict[str, Any]]] = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (optim.Adam, {"lr": 0.01}),
    "amsgrad": (optim.Adam, {"lr": 0.01, "amsgrad": True}),
    "adamw": (optim.AdamW, {"lr": 0.01}),
    "rmsprop": (optim.RMSprop, {"lr": 0.01, "momentum": 0.1, "centered": True}),
    "adagrad": (optim.Adagrad, {"lr": 0.01}),
    "adadelta": (optim.Adadelta, {"lr": 0.01}),
    "adamax": (optim.Adamax, {"lr": 0.01}),
    "nadam": (optim.NAdam, {"lr": 0.01}),
    "radam": (optim.RAdam, {"lr": 0.01}),
    "lbfgs": (optim.SGD, {"lr": torch.tensor(0.1)}),
}
_SCHEDULES: dict[str, Callable[[optim.Optimizer], Any]] = {
    "step": lambda each: optim.lr_scheduler.StepLR(each, 3),
    "cosine": lambda each: optim.lr_scheduler.CosineAnnealingLR(each, 10),
    "exponential": lambda each: optim.lr_scheduler.ExponentialLR(each, 0.9),
    "linear": optim.lr_scheduler.LinearLR,
    "cyclic": lambda each: optim.lr_scheduler.OneCycleLR(each, 0.1, total_steps=10),
}

TENSORS: dict[str, Callable[[], Any]] = {
    "state-dict": lambda: net().state_dict(),
    "empty-state-dict": lambda: nn.ReLU().state_dict(),
    "plain-dict": lambda: {"w": torch.ones(2, 3), "b": torch.zeros(2)},
    "lone-tensor": lambda: torch.arange(6.0),
    "lone-parameter": lambda: nn.Parameter(torch.ones(2)),
    "list": lambda: [torch.ones(2), torch.zeros(3)],
    "tuple": lambda: (torch.ones(2), {"a": torch.zeros(3)}),
    "integer-keys": lambda: {0: torch.ones(2), 1: torch.zeros(2)},
    "scalar-tensor": lambda: {"scale": torch.tensor(2.5), "step": torch.tensor(7)},
    "empty-tensors": lambda: {"none": torch.empty(0), "no-rows": torch.empty(0, 4), "no-columns": torch.empty(4, 0)},
    "parameters": lambda: dict(net().named_parameters()),
    "frozen-parameter": lambda: {"w": nn.Parameter(torch.ones(2), requires_grad=False)},
    "data-parallel": lambda: OrderedDict((f"module.{k}", v) for k, v in net().state_dict().items()),
    "compiled": lambda: OrderedDict((f"_orig_mod.{k}", v) for k, v in net().state_dict().items()),
    "odd-names": lambda: {name: torch.ones(1) for name in ("a\nb", "../x", "<b>", "\u202e", "a\0b", " ", "", "é", "🏋")},
    "deep": lambda: {"a": {"b": {"c": {"d": [[[{"w": torch.ones(1)}]]]}}}},
    "tied": _tied,
    "views": _views,
    "channels-last": lambda: {"w": torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)},
    "flags": _flags,
    "quantised": _quantised,
    "nested-tensor": _nested_tensor,
    "meta": lambda: {"w": torch.empty(3, 4, device="meta")},
    "numpy-scalars": _numpy_scalars,
    "numpy-arrays": _numpy_arrays,
    "random-state": _random_state,
    "gan": lambda: {"netG": net().state_dict(), "netD": net().state_dict(), "step": 10},
    "ema": _ema,
    "lightning": _lightning,
    "trainer": _trainer,
    "timm-weights-only": lambda: {
        "state_dict": net().state_dict(), "arch": "resnet18", "epoch": 3, "metric": 71.2, "version": 2,
    },
    "counter": lambda: {"w": torch.ones(1), "seen": collections.Counter("abca")},
    "plain-values": lambda: {
        "w": torch.ones(1), "none": None, "yes": True, "big": 1 << 70, "negative": -5, "text": "é\n",
        "bytes": b"\0\xff", "inf": float("inf"), "nan": float("nan"), "complex": 1 + 2j, "set": {1, 2},
        "tuple": (1, (2, 3)), "empty": {},
    },
    "sizes-and-devices": lambda: {
        "w": torch.ones(1), "size": torch.Size([1, 2]), "device": torch.device("cuda:1"), "dtype": torch.float16,
    },
    "bytearray": lambda: {"w": torch.ones(1), "blob": bytearray(b"abc")},
    "scripted-names": lambda: {f"layers.{i}.weight": torch.ones(1) for i in range(40)},
    **{f"dtype-{str(each)[6:]}": (lambda each=each: {"w": filled(each, 2, 4), "half": filled(each, 4, 2)[1:]})
       for each in (*PLAIN, *UNTYPED)},
    **{f"optimizer-{name}": (lambda make=make, settings=settings: _checkpoint(make, **settings))
       for name, (make, settings) in _OPTIMIZERS.items()},
    **{f"schedule-{name}": (lambda make=make: _scheduler(make)) for name, make in _SCHEDULES.items()},
    **{f"sparse-{str(each)[13:]}": (lambda each=each: _sparse(each)) for each in (
        torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)},
}  # fmt: skip
"""By name: values that are nothing but tensors and plain data."""

DATA_CLASSES: dict[str, Callable[[], Any]] = {
    "detr": lambda: {"model": net().state_dict(), "epoch": 3, "args": argparse.Namespace(lr=1e-4, backbone="resnet50")},
    "timm": lambda: {
        "state_dict": net().state_dict(),
        "args": argparse.Namespace(model="vit", opt={"lr": 0.1}, scale=[0.1, 1.0]),
    },
    "path": lambda: {"w": torch.ones(1), "path": pathlib.Path("runs/best.pt")},
    "pure-path": lambda: {"w": torch.ones(1), "path": pathlib.PurePosixPath("/data")},
    "datetime": lambda: {"w": torch.ones(1), "at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC)},
    "dates": lambda: {"w": torch.ones(1), "day": dt.date(2026, 1, 2), "took": dt.timedelta(seconds=5)},
    "defaultdict-of-lists": lambda: {"w": torch.ones(1), "log": defaultdict(list, loss=[0.5, 0.25])},
    "defaultdict-of-numbers": lambda: {"w": torch.ones(1), "log": defaultdict(float, loss=0.5)},
    "deque": lambda: {"w": torch.ones(1), "last": collections.deque([1.0, 2.0], maxlen=20)},
    "decimal": lambda: {"w": torch.ones(1), "cost": decimal.Decimal("1.5"), "share": fractions.Fraction(1, 3)},
    "uuid": lambda: {"w": torch.ones(1), "run": uuid.UUID(int=5)},
    "simple-namespace": lambda: {"w": torch.ones(1), "config": types.SimpleNamespace(lr=0.1)},
    "range-and-slice": lambda: {"w": torch.ones(1), "range": range(3), "frozen": frozenset({1})},
}
"""By name: values whose only code is data classes of the standard library."""

CODE: dict[str, Callable[[], Any]] = {
    "module": net,
    "linear": lambda: nn.Linear(3, 2),
    "transformer": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "lstm": lambda: nn.LSTM(3, 4, 2, bidirectional=True),
    "embedding": lambda: nn.Embedding(5, 3, padding_idx=0),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "data-parallel-module": lambda: nn.DataParallel(nn.Linear(2, 2)),
    "weight-norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)) and nn.Linear(2, 2),
    "module-in-a-checkpoint": lambda: {"model": nn.Linear(2, 2), "epoch": 3},
    "optimizer-object": lambda: {"w": torch.ones(1), "optimizer": trained(optim.Adam, lr=0.1)[1]},
    "loss": lambda: {"w": torch.ones(1), "criterion": nn.CrossEntropyLoss(label_smoothing=0.1)},
    "activation-by-function": lambda: {"w": torch.ones(1), "act": nn.functional.relu},
    "own-class": lambda: _Named(w=torch.ones(2)),
    "object-array": lambda: {"w": torch.ones(1), "names": np.array(["a", None], dtype=object)},
    "numpy-generator": lambda: {"w": torch.ones(1), "rng": np.random.default_rng(0)},
}  # fmt: skip
"""By name: values that need classes of torch, or somebody's own."""
