"""Hostile files: every published bypass in several containers, and containers that lie."""

import functools
import struct
from collections.abc import Callable, Iterator
from typing import Any

from corpus.archives import (
    FOUR_FLOATS,
    Record,
    ZipLayout,
    checkpoint_records,
    good_zip,
    legacy_pickles,
    legacy_stream,
    tar_bytes,
    tar_members,
    torch_zip,
    zip_bytes,
)
from corpus.assembly import PROTO_2, PROTO_4, STOP, called, named, state_dict, storage, tensor, text, value
from corpus.cases import Case, Verdict
from corpus.hostile_pickles import PICKLES
from corpus.programs import exported, package, scripted

Make = Callable[[bytes], bytes]
_GOOD = PROTO_2 + state_dict() + STOP


def _in_package(pickled: bytes) -> bytes:
    return package({"m/.data/extern_modules": b"", "m/model/model.pkl": pickled, "m/.data/version": b"6\n"})


def _at_legacy(position: int) -> Make:
    def build(pickled: bytes) -> bytes:
        pickles = legacy_pickles()
        pickles[position] = pickled
        return legacy_stream(pickles)

    return build


CONTAINERS: dict[str, Make] = {
    "zip": torch_zip,
    "bare": lambda pickled: pickled if pickled[:1] in b"\x80c(" else PROTO_2 + pickled,
    "legacy": _at_legacy(3),
}
"""Where every hostile pickle is put."""

MORE_CONTAINERS: dict[str, Make] = {
    **{f"legacy-{position}": _at_legacy(position) for position in (0, 1, 2, 4)},
    "torchscript-constants": lambda pickled: scripted({"constants.pkl": pickled}),
    "torchscript-traced-inputs": lambda pickled: scripted({"traced_inputs.pkl": pickled}),
    "torchscript-data": lambda pickled: scripted({"data.pkl": pickled}),
    "torchscript-bytecode": lambda pickled: scripted({"bytecode.pkl": pickled}),
    "torchscript-extra": lambda pickled: scripted({"extra/notes": pickled}),
    "export-sample-inputs": lambda pickled: exported({"data/sample_inputs/model.pt": torch_zip(pickled)}),
    "export-weight": lambda pickled: exported({"data/weights/weight_0": torch_zip(pickled)}),
    "export-extra": lambda pickled: exported({"extra/more.bin": pickled}),
    "package": _in_package,
    "tar-pickle": lambda pickled: tar_bytes(tar_members(pickled)),
    "tar-sys-info": lambda pickled: tar_bytes({**tar_members(), "sys_info": pickled}),
    "tar-storages": lambda pickled: tar_bytes({**tar_members(), "storages": pickled}),
    "CVE-2025-1889-other-name": lambda pickled: torch_zip(_GOOD, Record("m/config.json", pickled)),
    "CVE-2025-1889-no-suffix": lambda pickled: torch_zip(_GOOD, Record("m/payload", pickled)),
    "CVE-2025-1889-deflated": lambda pickled: torch_zip(_GOOD, Record("m/data.bin", pickled, method=8)),
    "CVE-2025-10155-pickle-with-a-zip-behind": lambda pickled: pickled + good_zip(),
    "CVE-2025-10156-bad-crc": lambda pickled: zip_bytes(_changed(0, pickled, central={"crc": 1}, local={"crc": 1})),
    "deferred-sizes": lambda pickled: zip_bytes(
        [Record(each.name, each.content, deferred=True) for each in checkpoint_records(pickled)]
    ),
    "deflated": lambda pickled: zip_bytes(
        [Record(each.name, each.content, method=8) for each in checkpoint_records(pickled)]
    ),
}
"""Where a few of them are put besides."""


def _changed(position: int, pickled: bytes = _GOOD, **changes: Any) -> list[Record]:
    records = checkpoint_records(pickled)
    for name, each in changes.items():
        setattr(records[position], name, each)
    return records


def _renamed(name: str) -> list[Record]:
    records = checkpoint_records(_GOOD)
    return [Record(record.name.replace("m/data.pkl", name), record.content) for record in records]


def _layout(**fields: Any) -> Callable[[bytes], bytes]:
    return lambda payload: zip_bytes(checkpoint_records(payload), ZipLayout(**fields))


LYING_ARCHIVES: dict[str, Make] = {
    "CVE-2025-1944-other-name-in-the-local-header": lambda payload: zip_bytes(
        _changed(0, payload, local={"name": b"m/data.txt"})),
    "CVE-2025-1944-other-name-in-the-directory": lambda payload: zip_bytes(
        [*checkpoint_records(_GOOD), Record("m/notes.txt", payload, local={"name": b"m/data.pkl"})]),
    "CVE-2025-1945-encrypted-in-the-local-header": lambda payload: zip_bytes(
        _changed(0, payload, local={"flags": 0x801})),
    "CVE-2025-1945-encrypted": lambda payload: zip_bytes(_changed(0, payload, flags=0x801)),
    "CVE-2025-1945-patch-flag": lambda payload: zip_bytes(_changed(0, payload, flags=0x820)),
    "CVE-2025-1945-strong-encryption": lambda payload: zip_bytes(_changed(0, payload, flags=0x840)),
    "method-in-the-local-header": lambda payload: zip_bytes(_changed(0, payload, local={"method": 8})),
    "method-12": lambda payload: zip_bytes(_changed(0, payload, central={"method": 12}, local={"method": 12})),
    "size-in-the-local-header": lambda payload: zip_bytes(_changed(0, payload, local={"size": 1})),
    "size-too-big": lambda payload: zip_bytes(_changed(0, payload, central={"size": 9999, "packed": 9999})),
    "two-sizes": lambda payload: zip_bytes(_changed(0, payload, central={"size": 1})),
    "offset-elsewhere": lambda payload: zip_bytes(_changed(0, payload, central={"offset": 5})),
    "overlapping": lambda payload: zip_bytes(
        [*checkpoint_records(payload), Record("m/x", b"y", central={"offset": 0})]),
    "two-of-one-name": lambda payload: zip_bytes([*checkpoint_records(_GOOD), Record("m/data.pkl", payload)]),
    "two-names-but-for-case": lambda payload: zip_bytes([Record("m/DATA.PKL", payload), *checkpoint_records(_GOOD)]),
    "other-case": lambda _: zip_bytes(_renamed("m/DATA.PKL")),
    "two-roots": lambda payload: zip_bytes([*checkpoint_records(_GOOD), Record("n/data.pkl", payload)]),
    "no-root": lambda _: zip_bytes(_renamed("data.pkl")),
    "root-above": lambda payload: zip_bytes(checkpoint_records(payload, "..")),
    "empty-root": lambda payload: zip_bytes(checkpoint_records(payload, "")),
    "absolute": lambda payload: zip_bytes([*checkpoint_records(_GOOD), Record("/m/x", payload)]),
    "upwards": lambda payload: zip_bytes([*checkpoint_records(_GOOD), Record("m/../x", payload)]),
    "backslash": lambda payload: zip_bytes([*checkpoint_records(_GOOD), Record("m\\data.pkl", payload)]),
    "nul-in-a-name": lambda payload: zip_bytes([*checkpoint_records(_GOOD), Record("m/data.pkl\0.txt", payload)]),
    "folder": lambda _: zip_bytes([*checkpoint_records(_GOOD), Record("m/folder/", b"")]),
    "second-name-in-an-extra-field": lambda payload: zip_bytes(
        _changed(2, payload, extra=struct.pack("<HHBI", 0x7075, 15, 1, 0) + b"m/data.pkl")),
    "comment": _layout(comment=b"hello"),
    "zip-in-the-comment": lambda payload: zip_bytes(checkpoint_records(payload), ZipLayout(comment=good_zip()[:60000])),
    "bytes-before": _layout(before=b"PK\3\4junk"),
    "bytes-between": _layout(between=b"junk"),
    "bytes-after": _layout(after=b"junk"),
    "pickle-after": lambda payload: good_zip() + payload,
    "two-archives": lambda payload: torch_zip(payload) + good_zip(),
    "entries-that-are-not-there": _layout(end={"count": 9}),
    "directory-elsewhere": _layout(end={"offset": 3}),
    "no-version": lambda _: zip_bytes(checkpoint_records(_GOOD)[:3]),
    "seven-zip": lambda payload: b"7z\xbc\xaf\x27\x1c\0\4" + payload,
    "gzip": lambda payload: b"\x1f\x8b\x08\0" + payload,
    "CVE-2025-1889-harmless-second-pickle": lambda _: torch_zip(_GOOD, Record("m/second.bin", _GOOD)),
    "archive-in-the-archive": lambda payload: torch_zip(_GOOD, Record("m/inner", torch_zip(payload))),
}  # fmt: skip
"""By name: archives that torch.save never writes, around a payload. Nothing dangerous is seen before the lie."""


def _tensor(**changes: Any) -> bytes:
    return PROTO_2 + tensor(**changes) + STOP


MALFORMED_PICKLES: dict[str, bytes] = {
    "beyond-its-storage": _tensor(shape=(5,)),
    "beyond-its-storage-by-stride": _tensor(shape=(2, 2), stride=(4, 1)),
    "CVE-2026-24747-storage-size": _tensor(of=storage(numel=400), shape=(400,)),
    "CVE-2026-24747-storage-too-small": _tensor(of=storage(numel=2), shape=(2,)),
    "storage-of-another-type": _tensor(of=storage(kind="torch:DoubleStorage")),
    "no-such-storage": _tensor(of=storage(key="7")),
    "storage-key-that-is-a-path": _tensor(of=storage(key="../0")),
    "negative-stride": _tensor(stride=(-1,)),
    "strides-missing": _tensor(stride=()),
    "huge-shape": _tensor(shape=(1 << 30, 1 << 30, 1 << 30), stride=(0, 0, 0)),
    "negative-numel": _tensor(of=storage(numel=-4)),
    "boolean-shape": PROTO_2 + tensor(shape=(True,)) + STOP,
    "one-storage-of-two-types": PROTO_2 + value([tensor(), tensor(storage(kind="torch:IntStorage"))]) + STOP,
    "list-as-a-key": PROTO_2 + b"}]" + value(1) + b"s.",
    "empty": b"",
    "only-stop": b".",
    "two-values": b"\x80\x02NN.",
    "cut": _GOOD[:-9],
    "bytes-after-stop": _GOOD + b"more",
    "protocol-9": b"\x80\x09N.",
    "memo-that-is-not-there": b"\x80\x02h\x05.",
    "huge-memo-index": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "huge-text": b"\x80\x02X\xff\xff\xff\xff",
    "frame-beyond-the-end": PROTO_4 + b"\x95" + struct.pack("<Q", 1 << 40) + b"N.",
    "persistent-id-of-a-module": PROTO_2 + value(("module", named("m:A"), "a.py", "class A: pass")) + b"Q.",
}
"""By name: pickles of `data.pkl` that no torch writes and that do no harm."""


def _legacy_keys(keys: list[Any]) -> bytes:
    return legacy_stream([*legacy_pickles()[:4], PROTO_2 + value(keys) + STOP])


def _safetensors(header: bytes, body: bytes = FOUR_FLOATS, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


_ENTRY = b'{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'

MALFORMED_FILES: dict[str, bytes] = {
    # Python's C unpickler takes the whole FRAME, and torch reads the storages two bytes later than they are.
    "cpython-154848-frame-beyond-the-stop-of-the-keys": legacy_stream(
        [*legacy_pickles()[:4], PROTO_4 + b"]" + text("0") + b"\x95" + struct.pack("<Q", 4) + b"a."]
    ),
    "legacy-no-keys": _legacy_keys([]),
    "legacy-other-keys": _legacy_keys(["1"]),
    "legacy-key-a-number-for-a-text": _legacy_keys([0]),
    "legacy-key-twice": _legacy_keys(["0", "0"]),
    "legacy-storage-cut": legacy_stream(legacy_pickles())[:-1],
    "legacy-bytes-after": legacy_stream(legacy_pickles()) + b"x",
    "legacy-other-count": legacy_stream(legacy_pickles(), struct.pack("<q", 5) + FOUR_FLOATS),
    "legacy-other-magic": legacy_stream([PROTO_2 + value(7) + STOP, *legacy_pickles()[1:]]),
    "legacy-other-version": legacy_stream([legacy_pickles()[0], PROTO_2 + value(7) + STOP, *legacy_pickles()[2:]]),
    "tar-without-storages": tar_bytes({k: v for k, v in tar_members().items() if k != "storages"}),
    "tar-with-more": tar_bytes({**tar_members(), "more": b"x"}),
    "tar-cut": tar_bytes(tar_members())[:3000],
    "tar-padding-cut": tar_bytes(tar_members()).rstrip(b"\0"),
    "safetensors-overlap": _safetensors(b'{"a":%s,"b":%s}' % (_ENTRY, _ENTRY)),
    "safetensors-hole": _safetensors(b'{"a":%s}' % _ENTRY.replace(b"0,16", b"4,20"), FOUR_FLOATS + bytes(4)),
    "safetensors-bytes-after": _safetensors(b'{"a":%s}' % _ENTRY, FOUR_FLOATS + b"x"),
    "safetensors-cut": _safetensors(b'{"a":%s}' % _ENTRY, FOUR_FLOATS[:-1]),
    "safetensors-name-twice": _safetensors(b'{"a":%s,"a":%s}' % (_ENTRY, _ENTRY)),
    "safetensors-unknown-dtype": _safetensors(b'{"a":%s}' % _ENTRY.replace(b"F32", b"O32")),
    "safetensors-negative-size": _safetensors(b'{"a":%s}' % _ENTRY.replace(b"[4]", b"[-4]")),
    "safetensors-boolean-size": _safetensors(b'{"a":%s}' % _ENTRY.replace(b"[4]", b"[4,true]")),
    "safetensors-float-size": _safetensors(b'{"a":%s}' % _ENTRY.replace(b"[4]", b"[4.0]")),
    "safetensors-other-shape": _safetensors(b'{"a":%s}' % _ENTRY.replace(b"[4]", b"[5]")),
    "safetensors-huge-header": _safetensors(b"{}", length=1 << 60),
    "safetensors-deep": _safetensors(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "safetensors-nan": _safetensors(b'{"__metadata__":{"a":NaN}}', b""),
    "safetensors-metadata-number": _safetensors(b'{"__metadata__":{"a":1}}', b""),
    "safetensors-no-object": _safetensors(b"{]", b""),
    "empty-file": b"",
    "text": b"these are no weights\n",
    "git-lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "web-page": b"<!doctype html><html></html>",
    "zeros": bytes(4096),
    "numpy-array": b"\x93NUMPY\1\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }" + FOUR_FLOATS,
}

_TRICKS = (
    "reduce", "stack-global", "inst", "GHSA-mxhj-reduce-popped", "GHSA-97f8-7cmv-76j2-builtins.eval",
    "GHSA-vvpj-8cmc-gx39-pkgutil.resolve_name",
)  # fmt: skip


def hostile_cases() -> Iterator[Case]:
    """Yield every hostile and every malformed file."""
    for trick, pickled in PICKLES.items():
        # A storage has another persistent id in the legacy format and none in a bare pickle, where values do not count.
        only_zip = b"FloatStorage" in pickled("") or trick.startswith("CVE-2026-24747")
        containers = {"zip": torch_zip} if only_zip else CONTAINERS
        for where, container in containers.items():
            yield _case(f"{trick}-in-{where}", "unsafe", functools.partial(_wrapped, pickled, container))
    for trick in _TRICKS:
        for where, container in MORE_CONTAINERS.items():
            yield _case(f"{trick}-in-{where}", "unsafe", functools.partial(_wrapped, PICKLES[trick], container))
    for name, lie in LYING_ARCHIVES.items():
        yield _case(f"lying-{name}", "malformed_artifact", functools.partial(_wrapped, PICKLES["reduce"], lie))
    for name, pickled in MALFORMED_PICKLES.items():
        yield _case(f"malformed-{name}", "malformed_artifact", functools.partial(_constant, torch_zip(pickled)))
    for name, data in MALFORMED_FILES.items():
        yield _case(f"malformed-{name}", "malformed_artifact", functools.partial(_constant, data))
    yield _case("GHSA-97f8-7cmv-76j2-as-magic-number", "unsafe", _eval_as_magic)
    for name, code in FILE_CALLS.items():
        yield _case(f"CVE-2025-32434-{name}", "unsafe", functools.partial(_constant, _script(code)))


def _case(name: str, verdict: Verdict, build: Callable[[str], bytes]) -> Case:
    return Case(name, verdict, build)


def _wrapped(pickled: Callable[[str], bytes], container: Make, marker: str) -> bytes:
    return container(pickled(f"touch {marker}"))


def _constant(data: bytes, _marker: str) -> bytes:
    return data


def _eval_as_magic(_marker: str) -> bytes:
    magic = called("builtins:eval", "0x1950a86a20f9469cfc6c")
    return legacy_stream([PROTO_2 + magic + STOP, *legacy_pickles()[1:]])


FILE_CALLS = {
    "torch-save": "torch.save(x, 'marker')",
    "ops-aten-save": "ops.aten.save(x, 'marker')",
    "from-file": "torch.from_file('marker', False, 3)",
    "write-file": "ops.image.write_file('marker', x)",
    "renamed": "t = torch\n    t.save(x, 'marker')",
}


def _script(call: str) -> bytes:
    code = f"class Net(Module):\n  def __setstate__(self, x):\n    {call}\n    return x\n"
    return scripted({"code/__torch__.py": code.encode()})


__all__ = ["CONTAINERS", "MORE_CONTAINERS", "hostile_cases", "text"]
