import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from registry.cli.tables import print_table
from registry.client.cache import Cache, blake3_file

NOBODY = "http://127.0.0.1:9"
SCRIPT = str(Path(sys.executable).with_name("weighbridge"))


@pytest.fixture
def cached(tmp_path):
    """A file in the cache of the user."""
    cache = Cache(tmp_path / "user-cache")
    file = cache.temporary_folder() / "abc"
    file.write_bytes(b"abc")
    return cache.adopt(file, blake3_file(file))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("show", "vision/x:prod"), 2, "Did you mean `vision/x@prod`"),
        (("show", "a/b/c/d:1"), 2, "no reference"),
        (("push", "vision/x", "none.pt"), 4, "no file or folder"),
        (("inspect", "~nobody-has-this-name/x.pt"), 4, "no file or folder"),
        (("import", "~nobody-has-this-name/x"), 4, "no folder"),
        (("push", "vision/x", "none.pt", "--metric", "top1"), 2, "KEY=VALUE"),
        (("push", "vision/x", "none.pt", "--metric", "top1=high"), 2, "no number"),
        (("push", "vision/x"), 2, "Missing argument"),
        (("list",), 1, "weighbridge serve"),
        (("list", "--url", "localhost"), 2, "no URL of a service"),
        (("delete", "vision/x"), 2, "--yes"),
        (("annotate", "vision/x"), 2, "Say what to change"),
        (("pull", "./none.pt", "-o", "out.safetensors"), 4, "no file or folder"),
        (("login", "nonsense"), 2, "no URL of a service"),
        (("logout",), 4, "not logged in"),
        (("token", "create", "x", "--days", "3", "--never"), 2, "--days or --never"),
        (("token", "create", "x", "--scope", "write"), 2, "read"),
        (("token", "revoke", "secret"), 2, "weighbridge token list"),
        (("team", "set", "vision"), 2, "Say what to change"),
        (("team", "show", ".."), 2, "team name"),
        (("audit", "--since", "yesterday"), 2, "2026-10-01"),
        (("audit", "--export", "--limit", "3"), 2, "--since"),
        (("audit", "--team", "vision", "--model", "audio/net"), 2, "is not of"),
        (("no-such-command",), 2, "No such command"),
    ],
)
def test_a_failure_has_its_exit_code_and_says_what_to_do(run, monkeypatch, arguments, code, says):
    monkeypatch.setenv("WEIGHBRIDGE_URL", NOBODY)
    ran = run(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err


def test_with_json_a_failure_is_a_problem_document(run):
    ran = run("show", "vision/x:prod", "--json")
    assert (ran.code, ran.json["code"]) == (2, "invalid_reference")


def test_offline_is_a_named_failure(run, monkeypatch):
    monkeypatch.setenv("WEIGHBRIDGE_OFFLINE", "1")
    ran = run("pull", "vision/x", "-o", "out.safetensors", "--json")
    assert (ran.code, ran.json["code"]) == (1, "offline")


def test_a_local_file_is_pulled_to_safetensors(run, tmp_path):
    torch.save({"fc.weight": torch.ones(2), "body.weight": torch.zeros(2)}, tmp_path / "model.pt")

    ran = run("pull", str(tmp_path / "model.pt"), "-o", str(tmp_path / "out.safetensors"), "--exclude", "fc.*")

    assert (ran.code, ran.out) == (0, f"{tmp_path / 'out.safetensors'}\n")
    assert "Wrote 1 tensors." in ran.err
    assert safetensors.torch.load_file(tmp_path / "out.safetensors").keys() == {"body.weight"}


def test_the_cache_is_shown_verified_and_pruned(run, cached, tmp_path):
    assert run("cache", "dir").out == f"{tmp_path / 'user-cache'}\n"
    assert [each["path"] for each in run("cache", "ls", "--json").json] == [str(cached)]
    assert run("cache", "verify").code == 0

    cached.chmod(0o644)
    cached.write_bytes(b"abd")
    ran = run("cache", "verify")
    assert ran.code == 6
    assert cached.name in ran.err
    assert run("cache", "ls", "--json").json == []


def test_pruning_asks_first_and_takes_what_is_old(run, cached):
    assert run("cache", "prune").code == 2
    assert run("cache", "prune", "--yes", "--json").json == {"removed": [], "freed_bytes": 0, "dry_run": False}
    os.utime(cached, (0, 0))
    told = {"removed": [f"blake3:{cached.name}"], "freed_bytes": 3}
    assert run("cache", "prune", "--dry-run", "--json").json == told | {"dry_run": True}
    assert run("cache", "prune", "--yes", "--json").json == told | {"dry_run": False}


def test_a_bash_completion_script_is_there():
    done = subprocess.run(
        [SCRIPT], env={**os.environ, "_WEIGHBRIDGE_COMPLETE": "bash_source"}, capture_output=True, text=True, check=True
    )
    assert "_weighbridge_completion" in done.stdout


def test_every_command_explains_itself(run):
    from registry.cli.group import COMMANDS

    listed = run("--help").out
    for name in COMMANDS:
        assert f"  {name} " in listed
    for name in set(COMMANDS) - {"serve", "admin"}:
        ran = run(name, "--help")
        assert (ran.code, ran.out.startswith(f"Usage: weighbridge {name}")) == (0, True)
        assert "\\b" not in ran.out, "a mark for Click that it does not understand"


def test_text_of_others_cannot_drive_the_terminal(capsys):
    print_table(("NAME", "NOTE"), [("a\x1b[2Jb", "line\nbreak\u202e")])
    assert capsys.readouterr().out.splitlines()[1] == "a [2Jb  line break"


def test_a_table_is_cut_on_a_terminal_and_whole_in_a_pipe():
    code = "from registry.cli.tables import print_table; print_table(('A', 'N'), [('x' * 150, '1')])"
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "x" * 150 in piped.stdout

    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=theirs, env=environment) as process:
        process.wait()
        os.close(theirs)
        shown = os.read(ours, 10_000).decode()
        os.close(ours)
    assert [len(line) for line in shown.splitlines() if "x" in line] == [80]


@pytest.mark.parametrize(
    ("options", "goes"),
    [
        (("--max-size", "1KiB"), False),
        (("--max-size", "2B"), True),
        (("--older-than", "1h"), False),
        (("--older-than", "0d"), True),
    ],
)
def test_pruning_takes_sizes_and_ages_as_people_write_them(run, cached, options, goes):
    assert run("cache", "prune", "--yes", *options).code == 0
    assert cached.exists() is not goes


@pytest.mark.parametrize("options", [("--max-size", "much"), ("--older-than", "soon")])
def test_what_is_no_size_or_age_is_a_usage_error(run, cached, options):
    assert run("cache", "prune", "--yes", *options).code == 2
    assert cached.exists()
