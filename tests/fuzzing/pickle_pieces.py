"""Opcodes, and runs of them, to be put into pickles: what pickles have, what they should not, and what does harm."""

from corpus.assembly import called, named, storage, tensor, text

GLOBALS = tuple(
    named(each)
    for each in [
        "os:system",
        "posix:system",
        "builtins:eval",
        "builtins:getattr",
        "__builtin__:set",
        "subprocess:Popen",
        "torch:load",
        "torch._utils:_rebuild_tensor_v2",
        "torch._utils:_rebuild_tensor_v3",
        "torch._utils:_rebuild_tensor",
        "torch._utils:_rebuild_parameter",
        "torch._utils:_rebuild_qtensor",
        "torch._utils:_rebuild_sparse_tensor",
        "torch._utils:_rebuild_meta_tensor_no_storage",
        "torch._tensor:_rebuild_from_type_v2",
        "torch:FloatStorage",
        "torch:DoubleStorage",
        "torch:BoolStorage",
        "torch:CharStorage",
        "torch.storage:UntypedStorage",
        "torch.cuda:FloatStorage",
        "torch:float32",
        "torch:float8_e5m2",
        "torch:Size",
        "torch:device",
        "torch:Tensor",
        "torch.nn.parameter:Parameter",
        "collections:OrderedDict",
        "collections:Counter",
        "collections:defaultdict",
        "argparse:Namespace",
        "pathlib:PosixPath",
        "datetime:date",
        "numpy:dtype",
        "numpy._core.multiarray:scalar",
        "numpy._core.multiarray:_reconstruct",
        "numpy:ndarray",
        "_codecs:encode",
        "m:A",
        "torch.nn.modules.linear:Linear",
        "torch._dynamo.eval_frame:OptimizedModule",
        "torch.serialization:_get_layout",
        "torch.jit._pickle:build_intlist",
        "__torch__:Net",
        "torch:FloatStorageX",
        "torch._utils:_rebuild_tensor_v2.__call__",
        "collections:OrderedDict.fromkeys",
        "osx:system",
    ]
)
_BY_WIDTH = (
    ("DoubleStorage", "LongStorage", "ComplexFloatStorage"),
    ("FloatStorage", "IntStorage", "QInt32Storage"),
    ("HalfStorage", "BFloat16Storage", "ShortStorage"),
    ("CharStorage", "ByteStorage", "BoolStorage", "QInt8Storage", "QUInt8Storage", "QUInt4x2Storage"),
    ("float8_e5m2", "float8_e4m3fn", "float8_e8m0fnu", "uint8", "int8", "bool", "float4_e2m1fn_x2", "bits8"),
    ("uint16", "int16", "float16", "bfloat16", "bits16"),
    ("uint32", "int32", "float32", "complex32"),
    ("uint64", "int64", "float64", "complex64"),
)
SAME_WIDTH = {
    named(f"torch:{one}"): tuple(named(f"torch:{other}") for other in names) for names in _BY_WIDTH for one in names
}
"""Types by each type: those whose elements take as many bytes."""

PAYLOADS = (
    called("os:system", "touch marker") + b"0",
    b"(" + text("touch marker") + b"ios\nsystem\n0",
    named("os:system") + b"0",
    b"(" + named("posix:system") + text("touch marker") + b"o0",
    text("os") + text("system") + b"\x930",
    b"(" + called("subprocess:Popen", "touch marker") + b"1",
)
"""What leaves the stack as it was, and would do harm."""

NEUTRAL = (b"N0", b"(1", b"]0", b"20", b"K\0" + b"0", b"})0" + b"0")
PUSHES = (
    b"N", b"\x88", b"\x89", b"]", b"}", b")", b"\x8f", b"K\0", b"K\1", b"K\2", b"K\x04", b"K\xff", b"J\xff\xff\xff\xff",
    b"J\0\0\0\x80", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x8a\x09\0\0\0\0\0\0\0\0\1", b"M\0\1",
    b"G?\xf0\0\0\0\0\0\0", b"G\x7f\xf8\0\0\0\0\0\0", b"I01\n", b"I7\n", b"L5L\n", b"F1.5\n", b"S'w'\n", b"Vw\n",
    b"U\1w",
    b"C\2ab", b"\x8c\1w", text("w"), text("storage"), text("cpu"), text("0"), text("1"), text("_metadata"),
    text("__setstate__"), text("latin1"), text("torch.sparse_coo"), text("O8"), text("f4"), text("conj"),
    text("\ud800"),
    tensor(), storage(), called("collections:OrderedDict"), called("torch:Size", (2, 2)),
)  # fmt: skip
ACTIONS = (
    b"(", b"0", b"1", b"2", b"R", b"b", b"\x81", b"\x92", b"o", b"Q", b"a", b"e", b"s", b"u", b"d", b"l", b"t", b"\x85",
    b"\x86", b"\x87", b"\x90", b"\x91", b"\x93", b"\x94", b"h\0", b"h\1", b"h\2", b"q\0", b"q\5", b"j\0\0\0\0",
    b"r\1\0\0\0", b"g0\n", b"p1\n", b"\x82\1", b"P1\n", b"\x80\2", b"\x95\4\0\0\0\0\0\0\0", b"\x97", b"\x98", b".",
)  # fmt: skip
NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    15,
    16,
    24,
    64,
    127,
    128,
    255,
    256,
    65535,
    -1,
    -2,
    1 << 31,
    (1 << 62) - 1,
    1 << 62,
)
