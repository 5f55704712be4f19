import json
import os
import re
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from real_weights import FILES, real_weights
from torch import nn

from registry.cli.output import shorten
from registry.formats.display import escape_name

TIMES = "\N{MULTIPLICATION SIGN}"
KEYS = ["format", "kind", "trust", "reasons", "globals", "sha256", "size", "scalars", "entries", "tensors"]
TENSOR_KEYS = [
    "name", "path", "part", "dtype", "shape", "stride", "storage_offset", "storage_key", "file_offset", "nbytes",
    "role", "requires_grad",
]  # fmt: skip


class Runs:
    def __reduce__(self):
        import os

        return os.system, ("true",)


@pytest.fixture
def sharded(tmp_path):
    folder = tmp_path / "sharded"
    folder.mkdir()
    weight_map = {}
    for number, names in enumerate((["a.weight", "a.bias"], ["b.weight"]), start=1):
        shard = f"model-{number:05}-of-00002.safetensors"
        safetensors.torch.save_file({name: torch.ones(2) for name in names}, folder / shard)
        weight_map |= dict.fromkeys(names, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


@pytest.mark.parametrize("path", FILES)
def test_every_real_file_has_the_documented_keys(run, path):
    ran = run("inspect", "--json", str(real_weights(path)))
    assert ran.code == 0
    assert list(ran.json)[: len(KEYS)] == KEYS
    assert list(ran.json["tensors"][0])[: len(TENSOR_KEYS)] == TENSOR_KEYS


def test_a_checkpoint_is_shown_with_its_scalars_and_modules(run, tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.save({"state_dict": module.state_dict(), "epoch": 1234, "note": "fine"}, tmp_path / "last.ckpt")
    ran = run("inspect", str(tmp_path / "last.ckpt"))
    words = ran.out.split()
    assert ran.code == 0
    assert {
        "checkpoint",
        "torch-zip",
        "epoch",
        "1,234",
        "state_dict.0",
        TIMES.join("8333"),
        "224",
        "257",
        "100.0%",
    } <= set(words)
    assert "trust: tensors" in ran.out


def test_tied_tensors_count_once(run, tmp_path):
    shared = torch.ones(1000)
    torch.save({"encoder.weight": shared, "decoder.weight": shared}, tmp_path / "tied.pt")
    ran = run("inspect", str(tmp_path / "tied.pt"))
    assert "2 tensors · 1,000 elements in 3.9 KiB" in ran.out
    assert "tied" in ran.out


def test_code_is_shown_with_what_it_refers_to_and_is_no_failure(run, tmp_path):
    torch.save(nn.Linear(2, 3), tmp_path / "whole.pt")
    ran = run("inspect", str(tmp_path / "whole.pt"))
    assert ran.code == 0
    assert "trust: code" in ran.out
    assert "torch.nn.modules.linear.Linear" in ran.out


def test_an_unsafe_file_is_shown_and_ends_with_6(run, tmp_path):
    torch.save({"a": torch.ones(2), "b": Runs()}, tmp_path / "evil.pt")
    ran = run("inspect", str(tmp_path / "evil.pt"))
    assert ran.code == 6
    assert "trust: unsafe" in ran.out
    assert "posix.system" in ran.out

    ran = run("inspect", "--json", str(tmp_path / "evil.pt"))
    assert (ran.code, ran.json["trust"]) == (6, "unsafe")
    assert "posix.system" in ran.json["globals"]


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02}q"])
def test_a_file_that_cannot_be_read_ends_with_6_and_a_problem(run, tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    ran = run("inspect", "--json", str(tmp_path / "model.pt"))
    assert (ran.code, ran.json["code"]) == (6, "malformed_artifact")
    assert ran.json["detail"].startswith("model.pt: ")

    ran = run("inspect", str(tmp_path / "model.pt"))
    assert (ran.code, ran.out) == (6, "")
    assert "error: model.pt: " in ran.err


@pytest.mark.parametrize("name", ["", "model.safetensors.index.json"])
def test_an_index_and_its_shards_are_one_state_dict(run, sharded, name):
    ran = run("inspect", "--json", str(sharded / name))
    assert ran.code == 0
    assert [each["name"] for each in ran.json["tensors"]] == ["a.bias", "a.weight", "b.weight"]
    assert (ran.json["sha256"], len(ran.json["files"])) == (None, 2)
    assert "2 shards" in run("inspect", str(sharded / name)).out


def test_an_index_that_its_shards_contradict_is_malformed(run, sharded):
    safetensors.torch.save_file({"c": torch.ones(1)}, sharded / "model-00002-of-00002.safetensors")
    ran = run("inspect", "--json", str(sharded))
    assert (ran.code, ran.json["code"]) == (6, "malformed_artifact")


def test_several_files_give_a_list(run, sharded):
    files = sorted(map(str, sharded.glob("*.safetensors")))
    assert [len(each["tensors"]) for each in run("inspect", "--json", *files).json] == [2, 1]


def test_what_is_not_there_ends_with_4(run, tmp_path):
    assert run("inspect", str(tmp_path / "none.pt")).code == 4
    ran = run("inspect", "--json", str(tmp_path))
    assert (ran.code, ran.json["code"]) == (6, "no_weights")


def test_names_cannot_drive_the_terminal(run, tmp_path):
    torch.save({"\x1b[31mred\n\u202eexe.weight": torch.ones(1), "[bold]x": torch.ones(1)}, tmp_path / "names.pt")
    out = run("inspect", str(tmp_path / "names.pt")).out
    assert "\x1b[31m" not in out
    assert "\u202e" not in out
    assert r"\x1b[31mred\x0a\u202eexe" in out
    assert "[bold]x" in out


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_on_a_terminal_no_line_is_wider_than_it(tmp_path, columns):
    import pty

    state = {f"encoder.very_long_name_of_a_block.{n}.attention.projection.weight": torch.ones(2, 3) for n in range(3)}
    torch.save(state, tmp_path / "long.pt")
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    command = [sys.executable, "-c", "from registry.cli import main; main()", "inspect", str(tmp_path / "long.pt")]
    with subprocess.Popen(command, stdout=slave, env=environment, cwd=tmp_path) as process:
        os.close(slave)
        said = b""
        while piece := read_some(master):
            said += piece
    os.close(master)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", said.decode())
    table = text[text.index("MODULE") :].splitlines()
    assert max(map(len, table)) <= columns
    assert all(f"2{TIMES}3" in line for line in table if line.strip().startswith("weight"))


def read_some(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says so at the end of a terminal
        return b""


def test_inspect_starts_without_the_client_or_torch(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    program = (
        "import sys\n"
        "from registry.cli import main\n"
        "try: main(['inspect', '--json', 'a.pt'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'urllib3', 'registry.client.client'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("plain.ä.名", "plain.ä.名"), ("a\nb", r"a\x0ab"), ("\0", r"\x00"), ("\u202e", r"\u202e"), ("\ud800", r"\ud800")],
)
def test_what_is_not_printable_is_written_out(text, escaped):
    assert escape_name(text) == escaped


def test_a_long_name_loses_its_middle():
    assert shorten("state_dict.encoder.layers.0.weight", 16) == "state…s.0.weight"
    assert shorten("short", 16) == "short"


def test_a_bad_file_of_a_folder_does_not_hide_the_others(run, tmp_path):
    torch.save({"good": torch.ones(2)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:200])
    torch.save({"fine": torch.ones(3)}, tmp_path / "c.pt")

    shown = run("inspect", str(tmp_path))
    assert shown.code == 6
    assert "good" in shown.out
    assert "fine" in shown.out
    assert "b.pt" in shown.err

    first, second, third = run("inspect", str(tmp_path), "--json").json
    assert (first["path"], third["kind"]) == (str(tmp_path / "a.pt"), "state_dict")
    assert (second["path"], second["code"]) == (str(tmp_path / "b.pt"), "malformed_artifact")
