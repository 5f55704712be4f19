"""`weighbridge purge` against a real server process, and on a real terminal."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = str(Path(sys.executable).with_name("weighbridge"))


@pytest.fixture
def push(run, name, tmp_path):
    def push(value=0.0, *options):
        path = tmp_path / "model.pt"
        # No other test's versions hold these bytes.
        torch.save({"weight": torch.full((64,), value), name: torch.ones(1)}, path)
        return run("push", name, str(path), "--json", *options).json

    return push


def test_a_purge_frees_what_nothing_else_holds_and_names_who_holds_the_rest(run, name, push):
    size_bytes = push()["size_bytes"]
    push()

    first = run("purge", f"{name}:1", "--reason", "leaked", "--now", "--yes", "--json")
    second = run("purge", f"{name}:2", "--reason", "leaked", "--now", "--yes")

    held = {"freed_bytes": 0, "still_held_bytes": size_bytes, "held_by": [f"{name}:2"], "held_by_more": 0}
    assert first.json == {"purged": f"{name}:1", **held}
    assert (second.code, second.out) == (0, "")
    assert f"({size_bytes:,} bytes) freed" in second.err
    gone = run("show", f"{name}:1")
    assert (gone.code, "leaked" in gone.err) == (4, True)


def test_a_purge_says_who_still_holds_the_bytes(run, name, push):
    push()
    push()
    ran = run("purge", f"{name}:1", "--reason", "leaked", "--now", "--yes")
    assert f"held by {name}:2" in ran.err


def test_a_live_version_is_purged_at_once_only(run, name, push):
    push()
    refused = run("purge", f"{name}:1", "--reason", "room", "--yes")
    assert (refused.code, "--now" in refused.err) == (5, True)
    run("delete", f"{name}:1", "--yes")
    assert run("purge", f"{name}:1", "--reason", "room", "--yes").code == 0
    again = run("purge", f"{name}:1", "--reason", "room", "--yes")
    assert (again.code, "gone for good" in again.err) == (5, True)


def test_nobody_guesses_which_version_is_purged(run, name, push):
    push()
    for ref in (name, f"{name}@latest", f"{name}:1/model.pt"):
        assert run("purge", ref, "--reason", "room", "--now", "--yes").code == 2
    assert run("purge", f"{name}:1", "--now", "--yes").code == 2
    assert run("purge", f"{name}:1", "--reason", " ", "--now", "--yes").code == 2
    assert run("show", f"{name}:1").code == 0


def test_without_a_terminal_a_purge_needs_a_yes(run, name, push):
    push()
    ran = run("purge", f"{name}:1", "--reason", "leaked", "--now")
    assert (ran.code, "--yes" in ran.err) == (2, True)
    assert run("show", f"{name}:1").code == 0


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 130, 0), (b"y\n", 0, 4)])
def test_on_a_terminal_a_purge_says_what_is_lost_before_it_asks(run, name, push, answer, code, left):
    push(0.0, "--alias", "prod", "--alias", "best")
    ours, theirs = pty.openpty()
    command = [SCRIPT, "purge", f"{name}@prod", "--reason", "leaked", "--now"]
    os.write(ours, answer)

    ran = subprocess.run(command, stdin=theirs, capture_output=True, text=True, timeout=60, check=False)

    os.close(ours)
    os.close(theirs)
    assert ran.returncode == code, ran.stderr
    for part in (f"{name}:1", "model.pt", "KiB", "best, prod"):
        assert part in ran.stderr
    assert run("show", f"{name}:1").code == left
