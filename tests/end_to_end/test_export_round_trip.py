"""A team goes out of one installation as plain files, and into another: SQLite and a folder, then PostgreSQL."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from support.service import running

from registry.client.results import Model
from registry.schema import ModelUpdate
from weighbridge import Builder, Client, DeprecatedVersionWarning, Origin, PretrainedConfig, Recipe

SCRIPT = str(Path(sys.executable).with_name("weighbridge"))


@pytest.fixture(scope="module")
def second_server(tmp_path_factory, postgres):
    """An empty installation on the other kind of database."""
    with postgres.new_database() as database:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
        variables["WEIGHBRIDGE_DATABASE_URL"] = postgres.url(database)
        subprocess.run([SCRIPT, "admin", "migrate"], env=variables, check=True, timeout=60)
        with running(tmp_path_factory.mktemp("second"), variables=variables) as service:
            yield service


@pytest.fixture
def first(live_server, tmp_path):
    with Client(live_server.url, cache_dir=tmp_path / "first-cache", progress=False) as client:
        yield client


@pytest.fixture
def second(second_server, tmp_path):
    with Client(second_server.url, cache_dir=tmp_path / "second-cache", progress=False) as client:
        yield client


@pytest.fixture
def team(request):
    """A team of this test's own."""
    return "team-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:8]


def weights(value: float, size: int = 8) -> dict[str, torch.Tensor]:
    return {"fc.weight": torch.full((size,), value)}


def fill(hub: Client, team: str, folder: Path) -> None:
    """Push all that a team may have: a base, aliases that moved, files beside weights, code, what was deleted."""
    folder.mkdir()
    (folder / "README.md").write_text("# What it is\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "Ünïcode name.txt").write_text("beside the weights")
    torch.save(weights(0.0), folder / "model.pt")
    torch.save(weights(0.5), folder / "ema.pt")
    net, trunk = f"{team}/net", f"{team}/Trunk"
    config = PretrainedConfig(num_classes=2, class_names=["cat", "dog"], classifier=["fc"])
    hub.push(trunk, weights(7.0), description="the trunk")
    hub.push(net, weights(1.0), metrics={"loss": 0.5}, alias="prod")
    hub.push(net, weights(2.0))
    hub.push(
        net,
        folder,
        metrics={"top1": 0.25, "loss": 1e-9},
        tags={"data": "ünïcode", "k": "v"},
        description="a folder",
        base=f"{trunk}:1",
        primary="model.pt",
        builder=Builder(callable="torch.nn:Linear", arguments={"in_features": 3, "nested": {"a": [1, None]}}),
        pretrained_cfg=config,
        recipe=Recipe(base=f"{trunk}:1", head=["fc"], frozen=["body.*"]),
    )
    hub.push(net, torch.nn.Linear(2, 2), base=f"{net}:3", as_code=True)
    hub.push(trunk, weights(8.0), base=f"{net}:4")
    hub.annotate(f"{net}:1", deprecated="trained on the test set")
    hub.alias(f"{net}:3", "prod", reason="better")
    hub.alias(f"{net}:4", "best", reason="the best")
    hub.delete(f"{net}:2")
    hub.set_visibility(trunk, "everyone")
    hub.connection.transport.call(
        Model, "PATCH", f"models/{trunk}", body=ModelUpdate(description="the trunk of all", tags={"area": "vision"})
    )


def documents(folder: Path) -> dict[str, object]:
    """Return what an export says, less what an import cannot keep: numbers, times, people, where it came from."""
    gone = {"created_at", "created_by", "annotated_at", "annotated_by", "moved_at", "moved_by", "history", "left_out"}
    numbers = json.loads((folder / "net" / "model.json").read_text())["versions"]
    renumbered = {number: place for place, number in enumerate(numbers, start=1)}

    def plain(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {name: plain(each, name) for name, each in value.items() if name not in gone | {"origin"}}
        if isinstance(value, list):
            return [plain(each, key) for each in value]
        if isinstance(value, int) and key in {"number", "version", "versions"}:
            return renumbered.get(value, value)
        if isinstance(value, str) and key in {"base", "file"}:
            for number, place in renumbered.items():
                value = value.replace(f"/net:{number}", f"/net:#{place}").replace(f"net/{number}/", f"net/#{place}/")
        return value

    found = {}
    for path in sorted(folder.rglob("*.json")):
        if path.name != "weighbridge.json" and "README.md" not in path.parts:
            document = plain(json.loads(path.read_text()))
            found[f"{document.get('model', document.get('name'))}:{document.get('number', '')}"] = document
    return found


def require_sound(folder: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    named = {line[66:] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    files = {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}
    assert files - named == {"SHA256SUMS"}


def test_a_team_is_the_same_in_another_installation(first, second, team, tmp_path):
    fill(first, team, tmp_path / "pushed")
    out = tmp_path / "out"

    exported = first.export_team(team, out)

    require_sound(out)
    counts = exported.info.counts
    assert (counts.models, counts.versions, counts.versions_left_out, counts.files_left_out) == (2, 5, 1, 0)
    assert counts.versions_not_shown == 0
    for name in ("README.md", "sub/Ünïcode name.txt", "model.pt", "ema.pt"):
        assert (out / "net" / "3" / name).read_bytes() == (tmp_path / "pushed" / name).read_bytes()

    done = second.import_team(out)

    assert done.failure is None
    assert {each.source: each.reference for each in done.versions} == {
        f"{team}/Trunk:1": f"{team}/Trunk:1",
        f"{team}/net:1": f"{team}/net:1",
        f"{team}/net:3": f"{team}/net:2",
        f"{team}/net:4": f"{team}/net:3",
        f"{team}/Trunk:2": f"{team}/Trunk:2",
    }
    assert {each.alias: (each.version, each.state) for each in done.aliases} == {
        f"{team}/net@best": (3, "set"),
        f"{team}/net@prod": (2, "set"),
    }
    came = second.show(f"{team}/net@prod")
    assert (came.base, came.recipe.base, came.weights) == (f"{team}/Trunk:1", f"{team}/Trunk:1", ["model.pt"])
    assert came.pretrained_cfg.class_names == ["cat", "dog"]
    assert came.origin.details["reference"] == f"{team}/net:3"
    trunk = second.model(f"{team}/Trunk")
    assert (trunk.visibility, trunk.description, trunk.tags) == ("everyone", "the trunk of all", {"area": "vision"})
    assert "imported from" in second.alias_history(f"{team}/net", "prod")[0].reason
    with pytest.warns(DeprecatedVersionWarning, match="trained on the test set"):
        second.pull(f"{team}/net:1")

    second.export_team(team, tmp_path / "back")
    require_sound(tmp_path / "back")
    assert documents(tmp_path / "back") == documents(out)


def test_a_second_import_adds_nothing_and_leaves_what_was_changed_here(first, second, team, tmp_path):
    fill(first, team, tmp_path / "pushed")
    first.export_team(team, tmp_path / "out")
    second.import_team(tmp_path / "out", team=f"{team}-2")
    net = f"{team}-2/net"
    second.alias(f"{net}:1", "prod", reason="back")
    second.remove_alias(net, "best")
    second.annotate(f"{net}:1", deprecated="")
    second.delete(f"{net}:3", force=True)
    before = [each.number for each in second.versions(net, deleted=True)]

    again = second.import_team(tmp_path / "out", team=f"{team}-2")

    assert {each.state for each in again.versions} == {"there", "deleted"}
    assert {each.state for each in again.aliases} == {"kept"}
    assert [each.number for each in second.versions(net, deleted=True)] == before
    assert second.show(f"{net}@prod").number == 1
    assert second.show(f"{net}:1").annotations.deprecated is None
    assert second.show(f"{team}-2/Trunk:2").base == f"{net}:3"


def test_a_model_that_was_deleted_stays_deleted_and_can_be_restored(first, second, team, tmp_path):
    net = f"{team}/net"
    first.push(net, weights(1.0), alias="prod")
    first.push(net, weights(2.0))
    first.annotate(f"{net}:1", deprecated="old")
    first.set_visibility(net, "everyone")
    first.export_team(team, tmp_path / "out")
    second.import_team(tmp_path / "out")
    second.delete(net)

    for dry_run in (True, False):
        again = second.import_team(tmp_path / "out", dry_run=dry_run)
        assert {(each.state, each.why) for each in again.versions} == {("deleted", f"`weighbridge restore {net}`")}
        assert [each.state for each in again.aliases] == ["lost"]

    second.restore(net)
    assert [each.number for each in second.versions(net)] == [2, 1]
    assert second.show(f"{net}@prod").number == 1


def test_what_an_earlier_import_made_and_somebody_deleted_meanwhile_is_not_new(first, second, team, tmp_path):
    net, told = f"{team}/net", []
    for value in (1.0, 2.0):
        first.push(net, weights(value))
    first.annotate(f"{net}:2", deprecated="old")
    first.export_team(team, tmp_path / "out")

    def import_and_delete(text):
        if not told:
            told.append(text)
            second.import_team(tmp_path / "out")
            second.delete(f"{net}:2")

    done = second.import_team(tmp_path / "out", say=import_and_delete)

    assert [(each.reference, each.state) for each in done.versions] == [(f"{net}:1", "new"), (f"{net}:2", "deleted")]
    assert done.failure is None


def test_who_may_read_a_model_stays_as_somebody_made_it_here(first, second, team, tmp_path):
    net = f"{team}/net"
    first.push(net, weights(1.0))
    first.set_visibility(net, "everyone")
    first.export_team(team, tmp_path / "out")
    second.import_team(tmp_path / "out")
    second.set_visibility(net, "team")
    second.delete(f"{net}:1")

    second.import_team(tmp_path / "out")

    assert second.model(net).visibility == "team"


def test_a_later_export_brings_what_is_new_and_an_archive_what_was_purged(first, second, team, tmp_path):
    out, net = tmp_path / "out", f"{team}/net"
    for value in (1.0, 2.0):
        first.push(net, weights(value))
    first.export_team(team, out)
    second.import_team(out)
    first.push(net, weights(3.0))

    exported = first.export_team(team, out)
    imported = second.import_team(out)

    assert exported.copied_files == 1
    assert [each.state for each in imported.versions] == ["there", "there", "new"]
    first.purge(f"{net}:1", reason="room", now=True)
    restored = first.import_team(out)
    assert [(each.reference, each.state) for each in restored.versions] == [
        (f"{net}:4", "new"),
        (f"{net}:2", "there"),
        (f"{net}:3", "there"),
    ]
    assert {each.state for each in first.import_team(out).versions} == {"there"}
    first.purge(f"{net}:4", reason="room", now=True)
    assert first.import_team(out).versions[0].reference == f"{net}:5"


def test_a_finished_archive_can_be_imported_until_a_newer_one_is_finished(first, second, team, tmp_path):
    out, net = tmp_path / "out", f"{team}/net"
    first.push(net, weights(1.0))
    first.export_team(team, out)
    first.push(net, weights(2.0))
    first.annotate(f"{net}:1", tags={"k": "v"})

    def break_off(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.export_team(team, out, say=break_off)

    assert [each.state for each in second.import_team(out).versions] == ["new"]
    assert first.export_team(team, out).copied_files == 0
    require_sound(out)
    assert [each.state for each in second.import_team(out).versions] == ["there", "new"]


def test_what_is_gone_on_the_service_stays_in_an_archive(first, second, team, tmp_path):
    out, net = tmp_path / "out", f"{team}/net"
    for value in (1.0, 2.0):
        first.push(net, weights(value))
    first.push(f"{team}/other", weights(3.0))
    first.export_team(team, out)
    first.purge(f"{net}:1", reason="room", now=True)
    first.delete(f"{team}/other")
    first.push(net, weights(4.0))

    for _ in range(2):
        exported = first.export_team(team, out)
        require_sound(out)
        counts = exported.info.counts
        assert (counts.models, counts.versions, counts.files, counts.versions_left_out) == (2, 4, 4, 0)

    done = second.import_team(out)
    assert sorted(each.source for each in done.versions) == [f"{net}:1", f"{net}:2", f"{net}:3", f"{team}/other:1"]
    assert {each.state for each in done.versions} == {"new"}


def test_what_is_missing_or_damaged_is_fetched_again_and_nothing_else(first, team, tmp_path):
    out = tmp_path / "out"
    first.push(f"{team}/net", weights(1.0))
    for value in (2.0, 3.0):
        first.push(f"{team}/net", weights(value))
    first.export_team(team, out)
    (file, damaged) = (next((out / "net" / number).iterdir()) for number in "12")
    file.unlink()
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    (out / "net" / "1.json").write_text("{}")

    assert first.export_team(team, out).copied_files == 2
    require_sound(out)
    assert first.export_team(team, out).copied_files == 0


def wait_for(condition, process) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_in_the_middle_both_go_on_where_they_stopped(first, second, second_server, live_server, team, tmp_path):
    out, net = tmp_path / "out", f"{team}/net"
    for value in range(25):
        first.push(net, weights(float(value), 200_000), base=f"{net}:{value}" if value else None)

    export = subprocess.Popen([SCRIPT, "export", team, "-o", str(out), "--url", live_server.url])
    wait_for((out / "net" / "3.json").exists, export)
    export.kill()
    export.wait()
    assert json.loads((out / "weighbridge.json").read_text())["finished"] is False
    command = [SCRIPT, "import", str(out), "--url", second_server.url]
    unfinished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (unfinished.returncode, "again" in unfinished.stderr) == (2, True)
    assert 0 < first.export_team(team, out).copied_files < 25
    require_sound(out)

    imported = subprocess.Popen(command)

    def some_arrived() -> bool:
        return len(second.list(team=team)) == 1 and second.model(net).version_count > 2

    wait_for(some_arrived, imported)
    imported.send_signal(signal.SIGKILL)
    imported.wait()
    done = second.import_team(out)
    assert {each.state for each in done.versions} == {"there", "new"}
    assert [(each.number, each.base) for each in second.versions(net, sort="number")] == [
        (value + 1, f"{net}:{value}" if value else None) for value in range(25)
    ]


def test_an_export_is_whole_while_others_push(first, second, team, tmp_path):
    net = f"{team}/net"
    first.push(net, weights(0.0), alias="prod")

    def push() -> None:
        for value in range(20):
            first.push(net, weights(float(value)), alias=["prod", f"a{value}"], base=f"{net}:1")

    pushing = threading.Thread(target=push)
    pushing.start()
    for number in range(3):
        first.export_team(team, tmp_path / str(number))
    pushing.join()

    for number in range(3):
        require_sound(tmp_path / str(number))
        said = json.loads((tmp_path / str(number) / "net" / "model.json").read_text())
        assert {each["version"] for each in said["aliases"]} <= set(said["versions"])
        done = second.import_team(tmp_path / str(number))
        assert {each.state for each in done.aliases} <= {"set", "kept", "there"}
    assert first.export_team(team, tmp_path / "2").info.counts.versions == 21


def test_an_index_among_several_stays_the_state_dict(first, second, team, tmp_path):
    from safetensors.torch import save_file

    for name, value in (("model", 1.0), ("other", 2.0)):
        save_file({"w": torch.full((3,), value)}, tmp_path / f"{name}-1.safetensors")
        index = {"metadata": {}, "weight_map": {"w": f"{name}-1.safetensors"}}
        (tmp_path / f"{name}.safetensors.index.json").write_text(json.dumps(index))
    files = [str(each) for each in sorted(tmp_path.iterdir()) if each.is_file()]
    first.push(f"{team}/net", files, primary="other.safetensors.index.json")

    first.export_team(team, tmp_path / "out")
    second.import_team(tmp_path / "out")

    assert second.show(f"{team}/net").weights == ["other-1.safetensors"]


def test_what_an_import_cannot_name_any_more_is_kept_as_a_word(first, second, team, tmp_path):
    first.push(f"{team}/base", weights(1.0))
    first.push(f"{team}/net", weights(2.0), base=f"{team}/base:1", recipe=Recipe(base=f"{team}/base:1", head=["fc"]))
    exported = first.export_team(team, tmp_path / "out", models=["net"])
    second.import_team(tmp_path / "out")

    came = second.show(f"{team}/net")
    assert exported.info.counts.versions_not_shown is None
    assert (came.base, came.origin.details["base"]) == (None, f"{team}/base:1")
    assert (came.recipe.base, came.origin.details["recipe_base"]) == (None, f"{team}/base:1")


def test_an_import_keeps_the_licence_and_the_publisher_of_what_was_imported_before(first, second, team, tmp_path):
    from registry.client.local import collect
    from registry.client.push import push_collected

    torch.save(weights(4.0), tmp_path / "model.pt")
    origin = Origin(source="timm:x", url="https://example.com/x", license="MIT", details={"paper": "a"})
    push_collected(first.connection, f"{team}/net", collect([tmp_path / "model.pt"]), {"origin": origin})

    first.export_team(team, tmp_path / "out")
    second.import_team(tmp_path / "out")

    came = second.show(f"{team}/net").origin
    assert (came.source, came.license, came.details["paper"]) == ("timm:x", "MIT", "a")
    assert came.details["reference"] == f"{team}/net:1"
