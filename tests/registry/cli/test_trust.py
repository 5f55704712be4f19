"""Why a file is trusted or not stands wherever a file or a version is shown, in the same words."""

import os
import pickle
import pty
import re
import subprocess
import sys

import pytest
import torch
from corpus.archives import torch_zip
from corpus.assembly import PROTO_2, STOP, named
from small_nets import Net
from support.service import running

MARKED, PLAIN = "  * small_nets.Net", "    torch.nn.modules.conv.Conv2d"


class Harm:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "whole.pt"
    torch.save(Net(), path)
    return path


@pytest.fixture
def legacy(tmp_path):
    path = tmp_path / "legacy.pt"
    torch.save(Net(), path, _use_new_zipfile_serialization=False)
    return path


def told(text):
    """Return the lines on trust of what a command printed."""
    lines = text.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("  trust: "))
    return lines[start : next((at for at in range(start, len(lines)) if not lines[at].startswith("  ")), None)]


def test_inspect_show_and_push_say_the_same_of_a_file(run, name, whole):
    inspected, pushed = run("inspect", str(whole)), run("push", name, str(whole))
    shown = run("show", name)
    lines = told(shown.out)
    assert lines[0].startswith("  trust: code")
    assert lines[1].startswith("  - Loading it runs code of these classes and functions: small_nets.Block")
    assert {MARKED, PLAIN} <= set(lines)
    assert told(inspected.out)[: len(lines)] == lines
    assert told(pushed.err) == lines
    assert pushed.out == f"{name}:1\n"


def test_the_json_of_inspect_and_show_marks_the_same_names(run, name, whole):
    run("push", name, str(whole))
    inspected, (shown,) = run("inspect", "--json", str(whole)).json, run("show", "--json", name).json["artifacts"]
    assert shown["marked_globals"] == inspected["marked_globals"] == ["small_nets.Block", "small_nets.Net"]
    assert shown["globals"] == inspected["foreign_globals"]
    assert shown["reasons"] == inspected["reasons"]


def test_files_of_which_the_same_is_told_are_told_together(run, name, whole, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for copy in ("a.pt", "b.pt", "c.pt", "d.pt"):
        (folder / copy).write_bytes(whole.read_bytes())
    torch.save({"w": torch.ones(2)}, folder / "plain.pt")
    run("push", name, str(folder), "--primary", "plain.pt")
    shown = run("show", name).out
    assert shown.count("trust: ") == 1
    assert "\na.pt, b.pt, c.pt and 1 more\n  trust: code" in shown


def test_of_tensors_nothing_is_told(run, name, tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "plain.pt")
    assert run("push", name, str(tmp_path / "plain.pt")).err.count("\n") == 1
    assert "trust: " not in run("show", name).out


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_whoever_uploads_a_compiled_module_is_told_of_the_paths_in_it(run, name, tmp_path):
    torch.save(torch.compile(Net()), tmp_path / "compiled.pt")
    assert "absolute paths of the machine that saved it" in run("push", name, str(tmp_path / "compiled.pt")).err


def test_the_classes_of_torchscript_itself_are_no_foreign_names(run, tmp_path):
    mentioned = torch_zip(PROTO_2 + b"](" + named("__torch__.small_nets:Net") + named("mynet:Net") + b"e" + STOP)
    (tmp_path / "a.pt").write_bytes(mentioned)
    out = run("inspect", str(tmp_path / "a.pt")).out
    assert "  * mynet.Net" in out
    assert "* __torch__" not in out


def test_the_source_that_a_legacy_file_carries_is_named_and_printed_when_asked_for(run, name, legacy, whole):
    run("push", name, str(legacy))
    for shown in (run("inspect", str(legacy)).out, run("show", name).out):
        assert "It carries the source of its classes" in shown
        assert re.search(r"small_nets\.Net \(\d+ lines\)", shown)
    for printed in (run("inspect", "--source", str(legacy)), run("show", "--source", name)):
        assert printed.code == 0
        assert "\n    def forward(self, images: torch.Tensor)" in printed.out
        assert "SHAPE" not in printed.out
    nothing = run("inspect", "--source", str(whole))
    assert (nothing.code, nothing.out) == (0, "")
    assert "carries no source" in nothing.err
    run("push", name, str(whole))
    assert "carries no source" in run("show", "--source", name).err


def test_source_cannot_drive_the_terminal(run, tmp_path):
    text = "class Net:\n\t'\x1b[31m\u202e'"
    identity = (
        b"(" + b"X\x06\0\0\0module" + b"cmynet\nNet\n" + b"N"
        + b"X" + len(text.encode()).to_bytes(4, "little") + text.encode() + b"tQ"
    )  # fmt: skip
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    start = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, system))
    (tmp_path / "odd.pt").write_bytes(start + b"\x80\x02](" + identity + b"e." + pickle.dumps([], 2))
    out = run("inspect", "--source", str(tmp_path / "odd.pt")).out
    assert out.endswith("class Net:\n    '\\x1b[31m\\u202e'\n\n")


@pytest.mark.parametrize("broken", [False, True], ids=["whole", "broken off"])
def test_a_refused_upload_shows_its_globals_and_reasons_and_stores_nothing(run, name, tmp_path, broken):
    content = PROTO_2 + b"](" + named("os:system") + named("torch.nn:Made") + (b"" if broken else b"e" + STOP)
    (tmp_path / "evil.pt").write_bytes(torch_zip(content))
    refused = run("push", name, str(tmp_path / "evil.pt"))
    assert (refused.code, refused.out) == (6, "")
    assert "  * os.system\n    torch.nn.Made\n" in refused.err
    assert "os.system" in refused.err.partition("refers to (")[0]
    assert run("show", name).code == 4
    problem = run("push", name, str(tmp_path / "evil.pt"), "--json").json
    assert problem["globals"] == ["os.system", "torch.nn.Made"]
    assert problem["global_count"] == 2
    inspected = run("inspect", str(tmp_path / "evil.pt"))
    assert "  * os.system\n" in inspected.out + inspected.err


def test_an_installation_of_tensors_only_refuses_code_and_shows_why(run, whole, tmp_path):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    (tmp_path / "service").mkdir()
    command = [sys.executable, "-m", "api", "serve"]
    with running(tmp_path / "service", command, inherited | {"WEIGHBRIDGE_ALLOW_CODE": "false"}) as service:
        refused = run("push", "vision/net", str(whole), "--url", service.url)
        assert (refused.code, refused.out) == (6, "")
        assert "takes tensors only" in refused.err
        assert "- Loading it runs code of these classes and functions: small_nets.Block" in refused.err
        assert MARKED in refused.err
        assert PLAIN in refused.err
        assert run("show", "vision/net", "--url", service.url).code == 4
    stored = [
        each for each in (tmp_path / "service" / "data").rglob("*") if each.stat().st_size == whole.stat().st_size
    ]
    assert stored == []


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_on_a_terminal_what_is_told_fits_it(tmp_path, columns):
    pairs = [f"mynet.{'deeply.' * 12}package:Layer{number}" for number in range(40)]
    (tmp_path / "many.pt").write_bytes(torch_zip(PROTO_2 + b"](" + b"".join(map(named, pairs)) + b"e" + STOP))
    master, slave = pty.openpty()
    command = [sys.executable, "-c", "from registry.cli import main; main()", "inspect", str(tmp_path / "many.pt")]
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen(command, stdout=slave, env=environment, cwd=tmp_path):
        os.close(slave)
        said = b""
        while piece := read_some(master):
            said += piece
    os.close(master)
    text = re.sub(r"\x1b\[[0-9;]*m", "", said.decode()).replace("\r\n", "\n")
    lines = told(text)
    assert max(map(len, lines)) <= columns
    assert sum(line.startswith("  * ") for line in lines) == 24
    assert "    … and 16 more; --json has all" in lines


def read_some(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says so at the end of a terminal
        return b""
