"""Harmless files: the values of `corpus.values` in every form that torch writes, and programs around weights."""

import functools
import io
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import safetensors.torch
import torch

from corpus.archives import (
    Record,
    good_zip,
    legacy_pickles,
    legacy_stream,
    rezipped,
    tar_bytes,
    tar_members,
    torch_zip,
    zip_bytes,
)
from corpus.assembly import PROTO_2, STOP, called, named, tensor, value
from corpus.cases import Case, Verdict
from corpus.programs import export_bytes, package_bytes, script_bytes
from corpus.values import CODE, DATA_CLASSES, TENSORS, seeded

FORMS: dict[str, dict[str, Any]] = {
    "zip": {},
    "protocol-3": {"pickle_protocol": 3},
    "protocol-4": {"pickle_protocol": 4},
    "protocol-5": {"pickle_protocol": 5},
    "legacy": {"_use_new_zipfile_serialization": False},
    "legacy-protocol-4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}
_ALWAYS = ("zip", "legacy", "protocol-4")
_NO_LEGACY = frozenset({"meta"})
"""torch does not write what has no storage in the legacy format, and reads it from there to something else."""


def saved(make: Callable[[], Any], form: str) -> bytes:
    """Return what torch.save writes of a value."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old forms are written on purpose
        torch.save(seeded(make), buffer, **FORMS[form])
    return buffer.getvalue()


def _swapped(data: bytes) -> bytes:
    """Return a checkpoint of float32 tensors as a big-endian machine writes it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        contents = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    for name, content in contents.items():
        if name.startswith("data/"):
            contents[name] = struct.pack(f">{len(content) // 4}f", *struct.unpack(f"<{len(content) // 4}f", content))
    return rezipped(data, zipfile.ZIP_STORED, {**contents, "byteorder": b"big"})


def _floats() -> dict[str, torch.Tensor]:
    return {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1.5, -2.0])}


def _python2() -> bytes:
    """Return a file whose texts are Python 2's, as torch 0.4 wrote them there."""
    word = b"U\x01w"
    return torch_zip(PROTO_2 + b"ccollections\nOrderedDict\n](](" + word + tensor() + b"ee\x85R" + STOP)


def _with_unordered_records() -> bytes:
    with zipfile.ZipFile(io.BytesIO(saved(_floats, "zip"))) as archive:
        records = [Record(name, archive.read(name)) for name in archive.namelist()]
    random.Random(0).shuffle(records)
    return zip_bytes(records)


def _by_hand() -> dict[str, torch.Tensor]:
    return {"w": torch.tensor([1.0, 2, 3, 4])}


def _old_parameter() -> bytes:
    """Return a Parameter as torch 0.3 wrote it: made, then given its state."""
    made = b"ctorch.nn.parameter\nParameter\n" + value((tensor(), True)) + b"R"
    return torch_zip(PROTO_2 + b"}" + value("w") + made + b"s" + STOP)


def _training_arguments() -> bytes:
    """Return what the Trainer of transformers leaves beside weights (`training_args.bin`)."""
    strategy = called("transformers.trainer_utils:IntervalStrategy", "steps")
    kind = called("accelerate.utils.dataclasses:DistributedType", "NO")
    made = named("transformers.training_args:TrainingArguments") + value(()) + b"\x81"
    state = {"output_dir": "runs", "eval_strategy": strategy, "device": called("torch:device", "cpu"), "type": kind}
    return torch_zip(PROTO_2 + made + value(state) + b"b" + STOP)


OTHER_FORMS: dict[str, tuple[Callable[[], bytes], Callable[[], Any]]] = {
    "deflated": (lambda: rezipped(saved(_floats, "zip")), _floats),
    "unaligned": (lambda: rezipped(saved(_floats, "zip"), zipfile.ZIP_STORED), _floats),
    "big-endian": (lambda: _swapped(saved(_floats, "zip")), _floats),
    "big-endian-deflated": (lambda: rezipped(_swapped(saved(_floats, "zip"))), _floats),
    "records-in-another-order": (_with_unordered_records, _floats),
    "by-hand": (good_zip, _by_hand),
    "by-hand-legacy": (lambda: legacy_stream(legacy_pickles()), _by_hand),
    "without-zip64": (lambda: zip_bytes([Record(f"m/{n}", c) for n, c in _contents(good_zip()).items()]), _by_hand),
    "without-byteorder": (
        lambda: zip_bytes([Record(f"m/{n}", c) for n, c in _contents(good_zip()).items() if n != "byteorder"]),
        _by_hand,
    ),
    "another-root": (lambda: zip_bytes(_records(good_zip(), "модель 1")), _by_hand),
    "bad-crc": (
        lambda: zip_bytes([replace(each, central={"crc": 5}, local={"crc": 5}) for each in _records(good_zip())]),
        _by_hand,
    ),
    "deferred-sizes": (
        lambda: zip_bytes([Record(f"m/{n}", c, deferred=True) for n, c in _contents(good_zip()).items()]),
        _by_hand,
    ),
    "with-a-note": (lambda: zip_bytes([*_records(good_zip()), Record("m/notes.txt", b"a note\n")]), _by_hand),
    "python-2": (_python2, _by_hand),
    "old-parameter": (_old_parameter, lambda: {"w": torch.nn.Parameter(torch.tensor([1.0, 2, 3, 4]))}),
}  # fmt: skip
"""By name: files of nothing but tensors that other writers make, and what torch reads from them."""


def _contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def _records(data: bytes, root: str = "m") -> list[Record]:
    return [Record(f"{root}/{name}", content) for name, content in _contents(data).items()]


_DENSE = (
    "state-dict", "plain-dict", "scalar-tensor", "empty-tensors", "data-parallel", "compiled", "odd-names", "tied",
    "views", "channels-last", *(name for name in TENSORS if name.startswith("dtype-")),
)  # fmt: skip
"""The values that safetensors takes, once each tensor has its own bytes."""
_NO_SAFETENSORS = frozenset({"dtype-complex128", "dtype-complex32"})


def dense(make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the tensors, each with its own bytes in row-major order, sorted as safetensors writes them."""
    return {name: each.detach().clone().contiguous() for name, each in seeded(make).items()}


def _safetensors(make: Callable[[], Any]) -> bytes:
    return safetensors.torch.save(dense(make), {"format": "pt"})


def harmless_cases() -> Iterator[Case]:
    """Yield every harmless file."""
    for values, verdict in ((TENSORS, "tensors"), (DATA_CLASSES, "code"), (CODE, "code")):
        for name, make in values.items():
            yield from _in_all_forms(name, make, verdict, data_only=values is DATA_CLASSES)
    for name, (build, expected) in OTHER_FORMS.items():
        yield _case(name, "tensors", build, expected)
    for name in _DENSE:
        if name not in _NO_SAFETENSORS:
            make = TENSORS[name]
            yield _case(
                f"{name}-safetensors", "tensors", functools.partial(_safetensors, make), functools.partial(dense, make)
            )
    for how in ("script", "trace", "freeze"):
        yield _case(f"torchscript-{how}", "code", functools.partial(script_bytes, how))
    yield _case("training-arguments", "code", _training_arguments)
    yield _case("export", "code", export_bytes)
    yield _case("package", "code", package_bytes)
    yield _case("tar", "tensors", lambda: tar_bytes(tar_members()))


def _in_all_forms(name: str, make: Callable[[], Any], verdict: Verdict, *, data_only: bool) -> Iterator[Case]:
    forms = FORMS if name in {"state-dict", "tied", "lightning", "plain-values", "module", "views"} else _ALWAYS
    for form in forms:
        if name in _NO_LEGACY and form.startswith("legacy"):
            continue
        expected = functools.partial(seeded, make) if verdict == "tensors" or data_only else None
        yield _case(f"{name}-{form}", verdict, functools.partial(saved, make, form), expected, data_only=data_only)


def _case(
    name: str,
    verdict: Verdict,
    build: Callable[[], bytes],
    expected: Callable[[], Any] | None = None,
    *,
    data_only: bool = False,
) -> Case:
    return Case(name, verdict, lambda _marker: build(), expected, data_only)
