"""The names behind the allow-list: what torch, numpy and the standard library write into harmless pickles."""

_BUILTINS = ("builtins", "__builtin__")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _pairs(module: str, names: str) -> frozenset[tuple[str, str]]:
    return frozenset((module, name) for name in names.split())


STORAGE_DTYPES: dict[str, str] = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
}
"""torch's typed storages and the dtype of their elements."""

DTYPE_BYTES: dict[str, int] = {
    **dict.fromkeys(_words("float64 int64 uint64 complex64"), 8),
    **dict.fromkeys(_words("float32 int32 uint32 complex32 qint32"), 4),
    **dict.fromkeys(_words("float16 bfloat16 int16 uint16 bits16"), 2),
    **dict.fromkeys(_words("int8 uint8 bool qint8 quint8 quint4x2 quint2x4"), 1),
    **dict.fromkeys(_words("float8_e5m2 float8_e4m3fn float8_e5m2fnuz float8_e4m3fnuz float8_e8m0fnu"), 1),
    **dict.fromkeys(_words("float4_e2m1fn_x2 bits8 bits1x8 bits2x4 bits4x2"), 1),
    **dict.fromkeys(_words("int1 int2 int3 int4 int5 int6 int7 uint1 uint2 uint3 uint4 uint5 uint6 uint7"), 1),
    "complex128": 16,
}
"""torch's dtypes and the size of an element in bytes."""

PACKED_ELEMENTS: dict[str, int] = {"quint4x2": 2, "quint2x4": 4}
"""Dtypes of less than a byte, and how many elements share one."""

QUANTISED_DTYPES = _words("qint8 quint8 qint32 quint4x2 quint2x4")
QSCHEMES = _words(
    "per_tensor_affine per_channel_affine per_tensor_symmetric per_channel_symmetric per_channel_affine_float_qparams"
)
LAYOUTS = _words("strided sparse_coo sparse_csr sparse_csc sparse_bsr sparse_bsc")

REBUILD_FUNCTIONS = _pairs(
    "torch._utils",
    "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter _rebuild_parameter_with_state "
    "_rebuild_qtensor _rebuild_sparse_tensor _rebuild_meta_tensor_no_storage _rebuild_nested_tensor "
    "_rebuild_wrapper_subclass _rebuild_device_tensor_from_numpy _rebuild_device_tensor_from_cpu_tensor "
    "_rebuild_xla_tensor",
)
"""The functions that make a tensor. FORMATS: what `weights_only=True` calls, and one older alias."""

REBUILD_FROM_TYPE = ("torch._tensor", "_rebuild_from_type_v2")

_TENSOR_TYPES = " ".join(
    f"{name}Tensor" for name in ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
)
_SPARSE_TYPES = _TENSOR_TYPES.replace("BoolTensor ", "")
_CUDA_STORAGES = " ".join(name for name in STORAGE_DTYPES if not name.startswith("Q"))

STORAGE_PAIRS: dict[tuple[str, str], str] = {
    **{("torch", name): dtype for name, dtype in STORAGE_DTYPES.items()},
    **{("torch.cuda", name): STORAGE_DTYPES[name] for name in _CUDA_STORAGES.split()},
}
"""The classes that a persistent id may name, and their dtype."""
UNTYPED_STORAGE = ("torch.storage", "UntypedStorage")

TENSOR_CLASSES = (
    _pairs("torch", f"Tensor {_TENSOR_TYPES}")
    | _pairs("torch.cuda", _TENSOR_TYPES)
    | _pairs("torch.sparse", _SPARSE_TYPES)
    | _pairs("torch.cuda.sparse", _SPARSE_TYPES)
    | {("torch.nn.parameter", "Parameter")}
)

TENSOR_PAIRS = (
    REBUILD_FUNCTIONS
    | {REBUILD_FROM_TYPE, UNTYPED_STORAGE, ("torch.storage", "TypedStorage"), ("_codecs", "encode")}
    | frozenset(STORAGE_PAIRS)
    | TENSOR_CLASSES
    | _pairs("torch", f"Size device {' '.join(DTYPE_BYTES)} {' '.join(QSCHEMES)}")
    | _pairs("torch.serialization", "_get_layout")
    | _pairs("collections", "OrderedDict Counter")
    | frozenset((module, name) for module in _BUILTINS for name in ("bytearray", "complex", "set"))
)
"""What `weights_only=True` of torch 2.13 allows, and the Python 2 names of the same."""

NUMPY_PAIRS = (
    _pairs("numpy", "dtype ndarray")
    | _pairs("numpy.core.multiarray", "scalar _reconstruct")
    | _pairs("numpy._core.multiarray", "scalar _reconstruct")
    | _pairs("numpy.core.numeric", "_frombuffer")
    | _pairs("numpy._core.numeric", "_frombuffer")
)

BUILTIN_TYPES = frozenset(
    (module, name)
    for module in _BUILTINS
    for name in _words("bool bytes dict float frozenset int list long object range slice str tuple unicode xrange")
) | frozenset((module, name) for module in _BUILTINS for name in ("bytearray", "complex", "set"))
"""Classes whose construction makes a value and nothing else; harmless as the factory of a defaultdict."""

_PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"

DATA_PAIRS = (
    BUILTIN_TYPES
    | frozenset((module, name) for module in _BUILTINS for name in ("Ellipsis", "NotImplemented"))
    | _pairs("argparse", "Namespace")
    | _pairs("collections", "defaultdict deque ChainMap UserDict UserList UserString")
    | _pairs("datetime", "date datetime time timedelta timezone")
    | _pairs("decimal", "Decimal")
    | _pairs("fractions", "Fraction")
    | _pairs("pathlib", _PATHS)
    | _pairs("pathlib._local", _PATHS)
    | _pairs("types", "SimpleNamespace")
    | _pairs("uuid", "UUID SafeUUID")
)
"""The standard library's data classes: all that is not unsafe of it, but for a few names of `CODE_PAIRS`."""

_FUNCTIONAL = (
    "celu elu gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu log_softmax logsigmoid mish normalize "
    "prelu relu relu6 rrelu selu sigmoid silu softmax softmin softplus softshrink softsign tanh tanhshrink threshold "
    "binary_cross_entropy binary_cross_entropy_with_logits cosine_similarity cross_entropy dropout interpolate "
    "l1_loss layer_norm linear mse_loss nll_loss one_hot pad scaled_dot_product_attention smooth_l1_loss "
    "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_avg_pool2d _max_pool2d "
    "batch_norm group_norm instance_norm conv1d conv2d conv3d embedding"
)
_TYPES = (
    "bool_ bool8 int8 int16 int32 int64 uint8 uint16 uint32 uint64 "
    "float16 float32 float64 complex64 complex128 str_ bytes_"
)

JIT_PAIRS = _pairs(
    "torch.jit._pickle",
    "restore_type_tag build_intlist build_tensorlist build_doublelist build_boollist build_tensor_from_id",
)
"""What TorchScript's own pickler writes; these rebuild typed lists and do nothing else."""

CODE_PAIRS = (
    JIT_PAIRS
    | _pairs("torch.nn.functional", _FUNCTIONAL)
    | _pairs("torch._C._nn", "elu_ gelu hardsigmoid hardswish hardtanh leaky_relu log_sigmoid mish relu6 silu softplus")
    | _pairs("torch", "contiguous_format preserve_format channels_last channels_last_3d")
    | _pairs("numpy", _TYPES)
    | _pairs("numpy.random._pickle", "__bit_generator_ctor __generator_ctor __randomstate_ctor")
    | _pairs("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence")
    | _pairs("functools", "partial")
    | _pairs("typing", "Any Callable Dict Generic Iterable List Literal Optional Sequence Set Tuple Type Union")
    | _pairs("copyreg", "_reconstructor __newobj__")
    | _pairs("copy_reg", "_reconstructor __newobj__")
)
"""Lower-case functions and standard names that live in harmless modules: never called with harm, but no data."""

OPTIMIZED_MODULE = ("torch._dynamo.eval_frame", "OptimizedModule")
COMPILER_CLASSES = (
    _pairs("torch._dynamo.eval_frame", "OptimizedModule OptimizeContext RunOnlyContext DisableContext")
    | _pairs("torch._dynamo.convert_frame", "CatchErrorsWrapper ConvertFrame ConvertFrameAssert ConvertFrameBox")
    | _pairs("torch._dynamo.hooks", "Hooks")
    | _pairs("torch._dynamo.repro.after_dynamo", "WrapBackendDebug")
    | _pairs("torch", "_TorchCompileInductorWrapper _TorchCompileWrapper")
)
COMPILER_CONTEXT = COMPILER_CLASSES | _pairs("contextlib", "nullcontext")
"""What `torch.compile` leaves in the pickle of a whole compiled module."""

OTHER_STANDARD_MODULES = _words(
    "__builtin__ _aix_support _android_support _apple_support _bootsubprocess _distutils_hack _interpchannels "
    "_interpqueues _interpreters _osx_support _pyrepl _suggestions _sysconfig _testcapi _testinternalcapi _types "
    "_xxinterpchannels _xxinterpqueues _xxlimited _xxsubinterpreters _xxtestfuzz "
    "annotationlib asynchat asyncore aifc audioop binhex cgi cgitb chunk commands compression copy_reg cPickle "
    "cProfile crypt cStringIO dircache distutils dl dummy_thread dummy_threading easy_install ensurepip exceptions "
    "formatter fpectl gdbm hotshot htmlentitydefs httplib idlelib imghdr imp imputil ihooks lib2to3 mailcap mhlib "
    "mimetools multifile mutex new nis nntplib nt ntpath os2emxpath ossaudiodev parser pathlib pip pipes "
    "pkg_resources popen2 posix posixfile posixpath rexec Queue Bastion BaseHTTPServer CGIHTTPServer ConfigParser "
    "SimpleHTTPServer SocketServer StringIO UserDict UserList UserString sets setuptools sgmllib site sitecustomize "
    "smtpd sndhdr spwd statvfs sunau symbol telnetlib test thread this toaiff Tkinter tkMessageBox tomllib turtledemo "
    "urllib2 urlparse user usercustomize uu wheel whichdb xdrlib xmllib xmlrpclib xreadlines zoneinfo"
)
"""Modules that some Python ships but not this one, and the installers that come with every environment."""
