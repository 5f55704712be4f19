"""A hostile file is found, harmless, and named; a harmless one is never blamed.

Every payload here would only touch a marker file; no test may leave one.
"""

import collections
import datetime as dt
import functools
import io
import os
import pathlib
import pickle
import struct
import uuid
import zipfile

import pytest
import torch
from torch import _weights_only_unpickler

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.allow_list import is_dangerous, standing
from registry.formats.limits import DEFAULT_LIMITS
from registry.formats.machine import run
from registry.formats.verdict import judge

GOOD_PICKLE = b"\x80\x02}q\x00."


@pytest.fixture(autouse=True)
def marker(tmp_path):
    path = tmp_path / "marker"
    yield path
    assert not path.exists()


def torch_zip(pickled, extra=(), names=("data.pkl",)):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(f"m/{name}", pickled)
        archive.writestr("m/version", b"3\n")
        for name, content in extra:
            archive.writestr(f"m/{name}", content)
    return buffer.getvalue()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


def hostile(command):
    """One pickle a trick; each refers to something that does harm, however it hides it."""
    arguments = text(command) + b"\x85"
    system = b"cos\nsystem\n"
    return {
        "reduce": system + arguments + b"R.",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + arguments + b"R.",
        "string operands": b"\x80\x04S'os'\nS'system'\n\x93" + arguments + b"R.",
        "python 2 string operands": b"\x80\x04U\x02osU\x06system\x93" + arguments + b"R.",
        "memoized operands": b"\x80\x04X\x02\0\0\0osq\x000X\x06\0\0\0systemq\x010h\x00h\x01\x93" + arguments + b"R.",
        "inst": b"(" + text(command) + b"ios\nsystem\n.",
        "obj": b"(" + system + text(command) + b"o.",
        "newobj": b"\x80\x02" + system + arguments + b"\x81.",
        "newobj ex": b"\x80\x04" + system + arguments + b"}\x92.",
        "popped": b"\x80\x02" + system + arguments + b"R0}.",
        "popped with its mark": b"\x80\x02(" + system + arguments + b"R1}.",
        "overwritten in the memo": b"\x80\x02" + system + b"q\x000}q\x00h\x000N.",
        "inside a dict": b"\x80\x02}" + text(b"w") + system + arguments + b"Rs.",
        "as a key": b"\x80\x02}" + system + arguments + b"R" + text(b"w") + b"s.",
        "in a shape": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\0" + system + arguments + b"R)\x89NtR.",
        "build": b"\x80\x02cm\nA\n)R}" + text(b"__setstate__") + system + b"sb}b.",
        "build a function": b"\x80\x02" + system + b"}" + text(b"x") + b"K\1sb.",
        "from type": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n("
        + system + b"ctorch\nTensor\n" + arguments + b"}tR.",
        "nested getattr": b"\x80\x02c__builtin__\ngetattr\n(cos\npath\n" + text(b"system") + b"tR" + arguments + b"R.",
        "getattr of torch": b"\x80\x02c__builtin__\ngetattr\n(ctorch\nSize\n" + text(b"__init__") + b"tR)R.",
        "dotted through torch": b"\x80\x04" + text(b"torch.serialization")
        + text(b"os.system") + b"\x93" + arguments + b"R.",
        "dotted through a stranger": b"\x80\x04" + text(b"nice.module")
        + text(b"os.system") + b"\x93" + arguments + b"R.",
        "partial": b"\x80\x02cfunctools\npartial\n" + system + b"\x85R)R.",
        "map": b"\x80\x02cbuiltins\nmap\n" + system + b"]" + text(command) + b"a\x86R.",
        "extension": b"\x80\x02\x82\x05)R.",
        "bytes as name": b"\x80\x04C\x02osC\x06system\x93" + arguments + b"R.",
        "renamed python 2 module": b"\x80\x02ccommands\ngetoutput\n" + arguments + b"R.",
        "call of a call": b"\x80\x02cm\nmake\n)R)R.",
        "computed arguments": b"\x80\x02cm\nrun\ncm\nmake\n)RR.",
        "items on a storage type": b"\x80\x02ctorch\nFloatStorage\nK\0K\1s.",
    }  # fmt: skip


HOSTILE = hostile(b"touch marker")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_unsafe_in_a_zip(name, marker, inspect):
    pickled = hostile(f"touch {marker}".encode())[name]
    try:
        inspection = inspect(torch_zip(pickled))
    except UnsafeArtifactError as error:
        assert error.extra["globals"] or error.extra["reasons"]  # noqa: PT017 - refused while reading, or reported
    else:
        assert inspection.trust == "unsafe"
        assert inspection.reasons


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_unsafe_as_a_bare_file(name, marker, inspect):
    pickled = hostile(f"touch {marker}".encode())[name]
    with pytest.raises(UnsafeArtifactError):
        inspect(pickled if pickled[:1] != b"P" else b"\x80\x02" + pickled)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_that_breaks_off_is_unsafe_and_not_just_malformed(name, inspect):
    with pytest.raises((UnsafeArtifactError, MalformedArtifactError)) as caught:
        inspect(torch_zip(HOSTILE[name][:-1] + b"\xff"))
    assert caught.type is UnsafeArtifactError


@pytest.mark.parametrize("position", range(5))
def test_a_payload_in_any_of_the_five_legacy_pickles_is_unsafe(position, marker, save, inspect):
    data = save({"w": torch.zeros(2)}, zipped=False)
    start = 0
    for _ in range(position):
        start = run(data, DEFAULT_LIMITS, start=start, persistent_load=lambda _: None).end
    payload = b"cos\nsystem\n" + text(f"touch {marker}".encode()) + b"\x85R."
    with pytest.raises(UnsafeArtifactError) as caught:
        inspect(data[:start] + payload + data[start:])
    assert "os.system" in caught.value.extra["globals"]


@pytest.mark.parametrize("change", [b"K\0K\1s", b"K\0a", b"}b"], ids=["set items", "append", "build"])
def test_a_value_of_torchs_own_that_is_changed_afterwards_is_unsafe(change, inspect):
    pickled = b"\x80\x02ctorch\nSize\n)\x85R" + change + b"."
    inspection = inspect(torch_zip(pickled))
    assert inspection.trust == "unsafe"
    assert "torch.Size made, which takes none" in inspection.reasons[0]


def test_a_pickle_with_a_zip_behind_it_is_judged_as_the_pickle_that_torch_would_run(save, inspect):
    with pytest.raises(UnsafeArtifactError):
        inspect(HOSTILE["reduce"] + save({"w": torch.zeros(1)}))


def test_a_second_pickle_under_another_name_is_refused(inspect):
    with pytest.raises(UnsafeArtifactError):
        inspect(torch_zip(GOOD_PICKLE, [("extra.bin", HOSTILE["reduce"])]))
    with pytest.raises(MalformedArtifactError):
        inspect(torch_zip(GOOD_PICKLE, [("extra.bin", GOOD_PICKLE)]))


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b\x08", bytes(257) + b"ustar"])
def test_an_archive_inside_the_archive_is_refused(start, inspect):
    with pytest.raises(MalformedArtifactError, match="archive inside"):
        inspect(torch_zip(GOOD_PICKLE, [("extra", start + bytes(100))]))


def test_other_unknown_records_are_kept_and_reported(inspect):
    texts = [("notes.txt", b"class Notes\nare text\n"), ("data/7", b"(c) somebody\n"), ("empty", b"")]
    assert inspect(torch_zip(GOOD_PICKLE, texts)).unknown_records == ["notes.txt", "data/7", "empty"]


def test_bytes_after_the_pickle_are_refused(inspect):
    with pytest.raises(MalformedArtifactError):
        inspect(torch_zip(GOOD_PICKLE + b"x"))
    with pytest.raises(UnsafeArtifactError):
        inspect(torch_zip(HOSTILE["reduce"] + b"x"))


def test_a_pickle_found_only_where_case_is_ignored_is_refused(inspect):
    with pytest.raises(MalformedArtifactError):
        inspect(torch_zip(GOOD_PICKLE, names=("DATA.PKL",)))


GADGETS = """\
builtins.eval builtins.exec builtins.open builtins.__import__ builtins.map builtins.type __builtin__.apply
os.system posix.system nt.system subprocess.Popen commands.getoutput runpy._run_code importlib.import_module
pip.main pip._internal.main asyncio.unix_events._UnixSubprocessTransport._start uuid._get_command_stdout
_osx_support._read_output _aix_support._read_cmd_output imaplib.IMAP4_stream _pyrepl.pager.pipe_pager test.support.run
pkgutil.resolve_name operator.methodcaller operator.attrgetter ctypes.CDLL pty.spawn distutils.file_util.write_file
logging.FileHandler io.FileIO urllib.request.urlopen types.CodeType types.FunctionType marshal.loads code.interact
multiprocessing.util.spawnv_passfds pydoc.locate pydoc.pipepager idlelib.run.Executive cProfile.run profile.run
trace.Trace lib2to3.pgen2.grammar.Grammar.loads timeit.timeit bdb.Bdb pdb.Pdb webbrowser.open shutil.rmtree
tempfile.mktemp socket.create_connection smtplib.SMTP zipimport.zipimporter sqlite3.connect functools.reduce
collections.namedtuple copyreg._extension_registry copyreg.add_extension weakref.finalize threading.Thread
torch.load torch.hub.load torch.storage._load_from_bytes torch.jit.load torch.serialization.load
torch.utils.collect_env.run torch.utils.bottleneck.__main__.run_cprofile torch._utils._import_dotted_name
torch._dynamo.guards.GuardBuilder.get torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression
torch.utils._config_module.ConfigModule.load_config torch.jit.unsupported_tensor_ops.execWrapper
torch.distributed.rpc.server_process_global_profiler torch.utils.cpp_extension.load
numpy.f2py.crackfortran.getlincoef numpy.load numpy.testing._private.utils.runstring numpy.fromfile
_interpreters.create _xxsubinterpreters.run_string site.execsitecustomize setuptools.setup ensurepip.bootstrap
"""


@pytest.mark.parametrize("gadget", GADGETS.split())
def test_published_gadgets_are_dangerous_and_none_is_named(gadget):
    for split in range(1, gadget.count(".") + 1):
        parts = gadget.split(".")
        assert is_dangerous(".".join(parts[:split]), ".".join(parts[split:]))


def test_torchs_own_allow_list_is_ours():
    allowed = _weights_only_unpickler._get_allowed_globals()
    standings = {name: standing(*name.rsplit(".", 1)) for name in allowed}
    assert set(standings.values()) == {"tensors"}


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("torch.nn.modules.linear", "Linear", "code"),
        ("torch.nn.functional", "relu", "code"),
        ("__main__", "Net", "code"),
        ("somebody.models", "make_net", "code"),
        ("somebody.models", "Net.Block", "code"),
        ("somebody.models", "Net._Block.Inner", "code"),
        ("__main__", "Net.Block", "code"),
        ("somebody.models", "os.system", "unsafe"),
        ("somebody.models", "Net.make", "unsafe"),
        ("somebody.models", "Net.__init__", "unsafe"),
        ("somebody.models", "subprocess.Popen", "unsafe"),
        ("somebody.models", "Queue.Queue", "unsafe"),
        ("somebody.models", "Net..Block", "unsafe"),
        ("torch.serialization", "os.system", "unsafe"),
        ("torch.nn", "Module.Block", "unsafe"),
        ("subprocess", "Popen.Popen", "unsafe"),
        ("functools", "partial", "code"),
        ("typing", "Any", "code"),
        ("argparse", "Namespace", "data"),
        ("pathlib", "PosixPath", "data"),
        ("__builtin__", "unicode", "data"),
        ("numpy", "dtype", "numpy"),
        ("numpy.core.multiarray", "scalar", "numpy"),
        ("evil", "FloatStorage", "code"),
        ("torch.Size", "__init__", "unsafe"),
        ("", "x", "unsafe"),
        ("os\n", "x", "unsafe"),
        ("a b", "c", "unsafe"),
        ("my-script", "Net", "code"),
        ("Torch", "load", "code"),
    ],
)
def test_names_stand_where_the_policy_puts_them(module, name, expected):
    assert standing(module, name) == expected


class Stranger:
    def __init__(self):
        self.x = 1


HARMLESS = {
    "namespace and paths": ({"p": pathlib.PurePosixPath("a/b"), "t": dt.timedelta(1)}, "code"),
    "dates": ({"d": dt.datetime(2024, 1, 1), "u": uuid.UUID(int=3)}, "code"),  # noqa: DTZ001 - as trainers save it
    "default dict": (collections.defaultdict(list, a=[1]), "code"),
    "set and complex": ({"s": {1, 2}, "c": 1j, "o": collections.OrderedDict(a=1)}, "tensors"),
    "counter": (collections.Counter("aab"), "tensors"),
    "bytes": ({"b": b"\x00\xff"}, "tensors"),
    "device and dtype": ({"d": torch.device("cpu"), "t": torch.bfloat16, "s": torch.Size([2, 3])}, "tensors"),
    "partial of a layer": (functools.partial(torch.nn.LayerNorm, eps=1e-6), "code"),
    "an instance": (Stranger(), "code"),
    "a function of torch.nn": ({"act": torch.nn.functional.relu}, "code"),
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_harmless_values_are_not_blamed(name, protocol, save, inspect):
    value, trust = HARMLESS[name]
    inspection = inspect(save(value, protocol=protocol))
    assert inspection.trust == trust
    assert bool(inspection.foreign_globals) == (trust == "code")


@pytest.mark.parametrize("name", ["namespace and paths", "dates", "default dict"])
def test_data_classes_are_told_from_other_code(name, save, inspect):
    assert inspect(save(HARMLESS[name][0])).reasons[0].startswith("data_classes_only")


def test_an_ordered_dict_with_pairs_in_its_arguments_is_a_mapping(inspect):
    pickled = b"\x80\x02ccollections\nOrderedDict\n]]" + text(b"epoch") + b"aK\x03aa\x85R."
    assert inspect(torch_zip(pickled)).scalars == {"epoch": 3}


def storage_tensor(
    *, offset=b"K\0", size=b"K\2\x85", stride=b"K\1\x85", numel=b"K\2", grad=b"\x89", kind=b"FloatStorage"
):
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + text(b"storage") + b"ctorch\n" + kind + b"\n" + text(b"0")
        + text(b"cpu") + numel + b"tQ" + offset + size + stride + grad + b"ccollections\nOrderedDict\n)RtR."
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": b"K\1"},
        {"offset": b"J\xff\xff\xff\xff"},
        {"offset": b"\x88"},
        {"offset": b"G" + struct.pack(">d", 0.0)},
        {"size": b"K\3\x85"},
        {"size": b"J\xff\xff\xff\xff\x85"},
        {"size": b"K\1K\1\x86"},
        {"size": b"\x88\x85"},
        {"size": b"\x8a\x09" + bytes(8) + b"\x01\x85"},
        {"stride": b"K\2\x85"},
        {"stride": b"J\xff\xff\xff\xff\x85"},
        {"stride": b"]K\1a"},
        {"numel": b"K\3"},
        {"numel": b"J\xff\xff\xff\xff"},
        {"numel": b"\x88"},
        {"grad": b"K\1"},
        {"kind": b"QInt8Storage"},
        {"kind": b"float32"},
        {"size": b"(" + b"K\1" * 65 + b"t", "stride": b"(" + b"K\1" * 65 + b"t"},
        {"size": b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85", "stride": b"K\0\x85"},
    ],
)
def test_a_view_that_does_not_fit_its_storage_is_refused(changes, inspect):
    assert inspect(torch_zip(storage_tensor(), [("data/0", bytes(8))])).tensors[0].shape == (2,)
    with pytest.raises(MalformedArtifactError):
        inspect(torch_zip(storage_tensor(**changes), [("data/0", bytes(8))]))


def test_a_forged_tensor_is_refused_also_where_it_is_popped(inspect):
    pickled = storage_tensor(offset=b"K\1")[:-1] + b"0}."
    with pytest.raises(MalformedArtifactError):
        inspect(torch_zip(pickled, [("data/0", bytes(8))]))


def test_an_expanded_tensor_counts_what_is_stored(save, inspect):
    (record,) = inspect(save({"x": torch.zeros(1).expand(1 << 40)})).tensors
    assert record.shape == (1 << 40,)
    assert record.stride == (0,)


def test_one_key_described_in_two_ways_is_refused(inspect):
    first, second = storage_tensor()[2:-1], storage_tensor(kind=b"IntStorage")[2:-1]
    with pytest.raises(MalformedArtifactError, match="two ways"):
        inspect(torch_zip(b"\x80\x02" + first + second + b"\x86.", [("data/0", bytes(8))]))


def test_calls_of_names_that_are_no_functions_are_refused(inspect):
    with pytest.raises(MalformedArtifactError):
        inspect(torch_zip(b"\x80\x02ctorch\nfloat32\n)R."))


LAUGHS = b"\x80\x02(K\1%s2t" + b"2\x86" * 200 + b"."


def test_shared_containers_of_nothing_are_walked_once(inspect):
    inspection = inspect(torch_zip(b"\x80\x02U\x01\xff" + b"2\x86" * 200 + b"."))
    assert (inspection.trust, inspection.tensors, inspection.scalars) == ("tensors", [], {})


@pytest.mark.parametrize("pickled", [LAUGHS % text(b"w"), b"\x80\x02)" + b"\x85" * 5000 + b"."], ids=["laughs", "deep"])
def test_graphs_that_explode_when_they_are_listed_end_at_a_limit(pickled, inspect):
    with pytest.raises(MalformedArtifactError):
        inspect(torch_zip(pickled))


def test_a_key_that_no_dict_can_have_is_refused(inspect):
    with pytest.raises(MalformedArtifactError, match="no dict can have"):
        inspect(torch_zip(b"\x80\x02}]K\1s."))


def test_keys_that_are_neither_text_nor_integers_are_named_in_words(save, inspect):
    value = {("a", 1): torch.zeros(1), None: torch.zeros(1), True: torch.zeros(1), 2.5: torch.zeros(1)}
    assert [record.path for record in inspect(save(value)).tensors] == [("('a', 1)",), ("None",), ("True",), ("2.5",)]


def test_a_cyclic_container_is_walked_once(save, inspect):
    cycle = {"w": torch.zeros(1), "epoch": 1, "sub": {"n": 2}}
    cycle["sub"]["self"] = cycle
    inspection = inspect(save(cycle))
    assert [record.name for record in inspection.tensors] == ["w"]
    assert inspection.scalars["sub.n"] == 2


def test_an_unsafe_file_that_parses_is_still_described(inspect):
    pickled = b"\x80\x02}" + text(b"epoch") + b"K\x05s" + text(b"x") + b"cos\nsystem\n" + text(b"true") + b"\x85Rs."
    inspection = inspect(torch_zip(pickled))
    assert inspection.trust == "unsafe"
    assert inspection.scalars["epoch"] == 5
    assert inspection.foreign_globals == ["os.system"]


def test_what_a_stdlib_pickle_of_an_object_would_run_is_named():
    class Payload:
        def __reduce__(self):
            return os.system, ("touch marker",)

    result = run(pickle.dumps(Payload()), DEFAULT_LIMITS)
    verdict = judge(result.globals, result.calls, result.dangers, DEFAULT_LIMITS)
    assert verdict.trust == "unsafe"
    assert verdict.globals == [f"{os.name}.system" if os.name == "nt" else "posix.system"]


@pytest.mark.parametrize("tail", [b"R.", b""], ids=["whole", "broken off"])
def test_names_in_sentences_cannot_drive_a_terminal_and_lists_keep_them_exact(tail, inspect):
    name = "sys\x1b[2J\r\u202ex".encode()
    pickled = b"\x80\x04\x8c\x02os\x8c" + bytes([len(name)]) + name + b"\x93)" + tail
    try:
        inspection = inspect(torch_zip(pickled))
        said, listed = " ".join(inspection.reasons), inspection.globals
    except UnsafeArtifactError as error:
        said, listed = error.detail, error.extra["globals"]
    assert said.isprintable()
    assert "sys\\x1b[2J\\x0d\\u202ex" in said
    assert listed == ["os.sys\x1b[2J\r\u202ex"]
