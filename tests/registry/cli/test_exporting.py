"""`weighbridge export` and `import` of its folder, against real server processes."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = str(Path(sys.executable).with_name("weighbridge"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"fc.weight": torch.ones(3, 2)}, path)
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def team(become, root, file):
    """A team with a model of two versions, and aliases of which one is protected."""
    root.push(f"{become.team}/net", str(file), alias="prod")
    root.push(f"{become.team}/net", str(file), alias="best")
    return become.team


def test_a_reader_exports_and_a_writer_imports(run, become, team, out, root):
    become("reader")
    exported = run("export", team, "-o", str(out))
    assert (exported.code, exported.out) == (0, f"{out}\n")
    for part in (f"{team}/net: 2 versions", "2 versions, 2 files", "fetched 2 of them"):
        assert part in exported.err
    assert run("export", team, "-o", str(out), "--json").json["copied_files"] == 0
    for more in ((), ("--dry-run",)):
        refused = run("import", str(out), "--team", f"{team}-2", *more)
        assert (refused.code, f"weighbridge team create {team}-2" in refused.err) == (4, True)
    root.create_team(f"{team}-2")
    root.set_member(f"{team}-2", become("writer"), "writer")

    imported = run("import", str(out), "--team", f"{team}-2")

    assert imported.code == 3
    assert "`maintainer`" in imported.err
    rows = [line.split() for line in imported.out.splitlines()]
    assert [f"{team}/net:1", f"{team}-2/net:1", "new"] in rows
    assert [f"{team}-2/net@best", "2", "set"] in rows
    assert "refused" in next(row for row in rows if row and row[0] == f"{team}-2/net@prod")
    again = run("import", str(out), "--team", f"{team}-2", "--json")
    assert (again.code, {each["state"] for each in again.json["versions"]}) == (3, {"there"})
    assert [each["state"] for each in again.json["aliases"]] == ["there", "refused"]


def test_a_dry_run_changes_nothing(run, become, team, out, root):
    become("reader")
    run("export", team, "-o", str(out))
    root.create_team(f"{team}-2")
    root.set_member(f"{team}-2", f"reader-of-{team}", "reader")
    refused = run("import", str(out), "--team", f"{team}-2", "--dry-run")
    assert (refused.code, "`writer`" in refused.err) == (3, True)
    root.set_member(f"{team}-2", f"reader-of-{team}", "writer")

    ran = run("import", str(out), "--team", f"{team}-2", "--dry-run", "--json")

    assert (ran.code, [each["state"] for each in ran.json["versions"]]) == (0, ["new", "new"])
    assert root.list(team=f"{team}-2") == []


def test_what_the_rules_let_nobody_download_is_listed_and_not_exported(run, become, team, out, tmp_path, root):
    class Harm:
        def __reduce__(self):
            return (os.system, ("true",))

    (tmp_path / "gift.pt").write_bytes(pickle.dumps({"weight": Harm()}))
    root.push(f"{team}/net", torch.nn.Linear(2, 2), as_code=True)
    root.update_team(team, code_opened_by="maintainer", unsafe="quarantine")
    root.push(f"{team}/net", str(tmp_path / "gift.pt"))
    become("reader")

    ran = run("export", team, "-o", str(out), "--json")

    assert ran.json["counts"] | {"size_bytes": 0} == {
        "models": 1,
        "versions": 3,
        "files": 2,
        "size_bytes": 0,
        "files_left_out": 1,
        "versions_left_out": 0,
        "versions_not_shown": 1,
    }
    (code,) = json.loads((out / "net" / "3.json").read_text())["files"]
    assert (code["file"], "`maintainer`" in code["left_out"]) == (None, True)
    become("admin")
    assert run("export", team, "-o", str(out), "--json").json["counts"]["files"] == 3
    (harm,) = json.loads((out / "net" / "4.json").read_text())["files"]
    assert (harm["file"], "quarantine" in harm["left_out"]) == (None, True)
    assert not (out / "net" / "4").exists()
    (opened,) = root.audit(team=team, action="code.open")
    assert opened.actor == f"admin-of-{team}"
    root.create_team(f"{team}-2")
    root.set_member(f"{team}-2", f"admin-of-{team}", "admin")
    states = [each["state"] for each in run("import", str(out), "--team", f"{team}-2", "--json").json["versions"]]
    assert states == ["new", "new", "new", "left_out"]


def test_an_outsider_exports_what_everyone_may_read_and_learns_of_nothing_else(run, become, team, out, root, file):
    become("outsider")
    assert run("export", team, "-o", str(out)).code == 4
    assert not out.exists()
    root.push(f"{team}/open", str(file))
    root.set_visibility(f"{team}/open", "everyone")

    ran = run("export", team, "-o", str(out), "--json")

    assert [each["name"] for each in ran.json["models"]] == ["open"]
    assert (ran.json["rules"], ran.json["counts"]["versions_not_shown"]) == (None, None)


def test_who_may_not_show_a_model_to_everyone_imports_it_for_the_team(run, become, team, out, root):
    root.set_visibility(f"{team}/net", "everyone")
    become("reader")
    run("export", team, "-o", str(out))
    root.create_team(f"{team}-2")
    root.set_member(f"{team}-2", become("writer"), "writer")

    ran = run("import", str(out), "--team", f"{team}-2")

    assert (ran.code, "read by its team only" in ran.err) == (3, True)
    assert root.model(f"{team}-2/net").version_count == 2
    assert root.model(f"{team}-2/net").visibility == "team"


def test_a_full_team_stops_an_import_which_still_tells_what_it_did(run, become, team, out, root):
    become("reader")
    run("export", team, "-o", str(out))
    root.create_team(f"{team}-2")
    root.update_quota(f"{team}-2", max_versions=1)
    root.set_member(f"{team}-2", become("writer"), "writer")

    ran = run("import", str(out), "--team", f"{team}-2", "--json")

    assert [each["state"] for each in ran.json["versions"]] == ["new"]
    assert (ran.code, ran.json["failure"]["code"]) == (1, "quota_exceeded")
    assert "1 version not tried yet" in ran.json["notices"][0]
    again = run("import", str(out), "--team", f"{team}-2")
    assert (again.code, "there" in again.out) == (1, True)


def test_a_token_for_one_model_brings_nothing_deleted_back(run, become, team, out, root, monkeypatch):
    become("reader")
    run("export", team, "-o", str(out))
    root.create_team(f"{team}-2")
    become("admin")
    root.set_member(f"{team}-2", f"admin-of-{team}", "admin")
    run("import", str(out), "--team", f"{team}-2")
    root.delete(f"{team}-2/net")
    narrow = root.create_token("narrow", user=f"admin-of-{team}", targets=[f"{team}-2/net"])
    monkeypatch.setenv("WEIGHBRIDGE_TOKEN", narrow.token)

    ran = run("import", str(out), "--team", f"{team}-2", "--json")

    assert {each["state"] for each in ran.json["versions"]} == {"deleted"}
    assert root.restore(f"{team}-2/net").version_count == 2


def test_models_are_chosen_by_name_and_a_folder_is_of_one_choice(run, become, team, out, root, file):
    root.push(f"{team}/other", str(file))
    become("reader")

    ran = run("export", team, "-o", str(out), "--models", "ot*")

    assert (ran.code, "1 model, 1 version, 1 file " in ran.err) == (0, True)
    for more in ((), ("--models", "net")):
        refused = run("export", team, "-o", str(out), *more)
        assert (refused.code, "those called ot*" in refused.err) == (2, True)
    assert run("export", team, "-o", str(out), "--models", "none*").code == 4


def test_a_folder_with_other_things_and_one_of_another_team_are_left_alone(run, become, team, out, root, file):
    become("reader")
    out.mkdir()
    (out / "mine.txt").write_text("x")
    refused = run("export", team, "-o", str(out))
    assert (refused.code, "new or empty" in refused.err) == (2, True)
    (out / "mine.txt").unlink()
    run("export", team, "-o", str(out))
    root.create_team(f"{team}-2")
    root.push(f"{team}-2/net", str(file))
    root.set_member(f"{team}-2", f"reader-of-{team}", "reader")
    assert run("export", f"{team}-2", "-o", str(out)).code == 2


def test_an_exported_team_is_told_from_a_folder_of_weights(run, become, team, out, tmp_path, file):
    become("admin")
    run("export", team, "-o", str(out))
    for more in (("x/y",), ("--tag", "a=b"), ("--alias", "prod"), ("--sha256", "0" * 64)):
        assert run("import", str(out), *more).code == 2
    assert run("import", f"https://127.0.0.1:9/{'x' * 300}.pt", f"{team}/plain").code == 1
    folder = tmp_path / "weights"
    folder.mkdir()
    file.rename(folder / "model.pt")
    assert run("import", str(folder), f"{team}/plain", "--dry-run").code == 2
    assert run("import", str(folder), f"{team}/plain").out == f"{team}/plain:1\n"


def test_a_full_disk_has_a_name_and_the_same_command_goes_on(run, name, tmp_path, out, live_server):
    team = f"t-{name.rpartition('/')[2]}"
    torch.save({"w": torch.rand(100_000)}, tmp_path / "large.pt")
    run("push", f"{team}/net", str(tmp_path / "large.pt"))
    # What a file system says when a file may not grow is what it says when it is full.
    limited = f"ulimit -f 100; exec {SCRIPT} export {team} -o {out} --url {live_server.url}"
    ran = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=60, check=False)

    assert (ran.returncode, "No room in" in ran.stderr, "Traceback" in ran.stderr) == (1, True, False)
    assert sorted(each.name for each in out.iterdir()) == ["net", "weighbridge.json"]
    assert run("export", team, "-o", str(out)).code == 0


def test_files_are_readable_as_the_user_makes_files(run, name, file, out):
    team = f"t-{name.rpartition('/')[2]}"
    run("push", f"{team}/net", str(file))
    before = os.umask(0o027)
    try:
        run("export", team, "-o", str(out))
    finally:
        os.umask(before)
    assert {oct(each.stat().st_mode & 0o777) for each in out.rglob("*") if each.is_file()} == {"0o640"}
