"""The commands against a real server process."""

import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from registry.client.client import Client
from registry.client.config import SavedLogins

SCRIPT = str(Path(sys.executable).with_name("weighbridge"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"fc.weight": torch.ones(3, 2), "body.weight": torch.zeros(2)}, path)
    return path


def test_push_prints_the_new_reference_and_download_the_paths(run, name, file, tmp_path):
    pushed = run("push", name, str(file), "--metric", "top1=0.5", "--tag", "data=noise", "--alias", "prod")
    assert (pushed.code, pushed.out) == (0, f"{name}:1\n")
    assert "Pushed 1 file" in pushed.err

    loaded = run("download", f"{name}@prod", "-o", str(tmp_path / "out"))
    assert (loaded.code, loaded.out) == (0, f"{tmp_path / 'out' / 'model.pt'}\n")
    assert (tmp_path / "out" / "model.pt").read_bytes() == file.read_bytes()


def test_pull_writes_the_tensors_asked_for(run, name, file, tmp_path):
    run("push", name, str(file))
    ran = run("pull", name, "-o", str(tmp_path / "out.safetensors"), "--include", "fc.*", "--json")
    assert (ran.code, ran.json["tensors"]) == (0, 1)
    assert safetensors.torch.load_file(tmp_path / "out.safetensors").keys() == {"fc.weight"}


def test_pull_fetches_only_what_it_writes_and_puts_it_together_from_the_cache(run, name, tmp_path):
    state_dict = {f"layer{number}.weight": torch.randn(200, 200) for number in range(4)}
    state_dict["turned"] = torch.randn(200, 200).t()
    torch.save(state_dict, tmp_path / "model.pt")
    run("push", name, str(tmp_path / "model.pt"))
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert run("pull", name, "-o", str(first), "--include", "layer[12].*", "--only", "weights").code == 0
    assert sum(each["size_bytes"] for each in run("cache", "ls", "--json").json) < 340_000

    assert run("pull", name, "-o", str(second), "--exclude", "layer0.*").code == 0

    for file, names in ((first, "12"), (second, "123")):
        found = safetensors.torch.load_file(file)
        assert {key for key in found if key != "turned"} == {f"layer{number}.weight" for number in names}
        assert all(torch.equal(value, state_dict[key]) for key, value in found.items())
    refused = run("pull", name, "-o", str(second), "--include", "haed.*")
    assert (refused.code, "haed.*" in refused.err) == (2, True)


def test_pull_writes_no_safetensors_under_the_name_of_a_torch_file(run, name, file, tmp_path):
    run("push", name, str(file))
    refused = run("pull", name, "-o", str(tmp_path / "out.pt"))
    assert refused.code == 2
    assert "out.safetensors" in refused.err
    assert not (tmp_path / "out.pt").exists()


def test_a_folder_is_pushed_and_what_was_skipped_is_said_once(run, name, file, tmp_path):
    (tmp_path / "folder").mkdir()
    file.rename(tmp_path / "folder" / "model.pt")
    (tmp_path / "folder" / ".hidden").write_text("x")

    ran = run("push", name, str(tmp_path / "folder"))

    assert ran.code == 0
    assert ran.err.count(".hidden") == 1


def test_every_answer_comes_as_json_too(run, name, file):
    assert run("push", name, str(file), "--metric", "loss=0.5", "--json").json["number"] == 1
    assert name.partition("/")[2] in [each["name"] for each in run("list", "--json").json]
    assert [each["name"] for each in run("search", name.partition("/")[2], "--json").json] == [name.partition("/")[2]]
    assert run("show", name, "--json").json["model_info"]["latest"] == 1
    assert [each["number"] for each in run("versions", name, "--json").json] == [1]
    assert run("best", name, "loss", "--mode", "min", "--json").json["number"] == 1
    assert run("annotate", name, "--tag", "a=b", "--json").json["annotations"]["tags"] == {"a": "b"}
    assert run("alias", name, "prod", "--json").json["version"] == 1
    assert [each["name"] for each in run("alias", "ls", name, "--json").json] == ["prod"]
    assert [each["to_version"] for each in run("alias", "history", name, "prod", "--json").json] == [1]
    assert run("alias", "history", name, "prod", "--at", f"{datetime.now(UTC):%Y-%m-%d}").out == "1\n"
    assert run("alias", "history", name, "prod", "--at", "2020-01-01").code == 4
    assert run("alias", "rm", name, "prod", "--json").json == {"removed": "prod"}
    assert run("delete", f"{name}:1", "--yes", "--json").json == {"deleted": f"{name}:1"}
    assert run("restore", f"{name}:1", "--json").json["number"] == 1


def test_the_tables_show_what_counts(run, name, file):
    run("push", name, str(file), "--metric", "loss=0.5", "--tag", "data=noise", "--description", "the first")
    run("alias", f"{name}:1", "prod", "--reason", "passed the review")

    shown = run("show", f"{name}@prod").out
    for part in (f"{name}:1", "loss=0.5", "data=noise", "prod", "model.pt", "torch-zip", "the first"):
        assert part in shown
    assert "@prod" in run("versions", name).out
    assert "passed the review" in run("alias", "history", name, "prod").out
    assert run("best", name, "loss").out == f"{name}:1\t0.5\n"


def test_a_deprecated_version_is_used_with_a_warning(run, name, file, tmp_path):
    run("push", name, str(file))
    run("annotate", name, "--deprecated", "trained on the test set")
    for ran in (
        run("download", f"{name}:1", "-o", str(tmp_path / "out")),
        run("pull", f"{name}:1", "-o", str(tmp_path / "out.safetensors")),
    ):
        assert ran.code == 0
        assert "warning:" in ran.err
        assert "trained on the test set" in ran.err


def test_a_deletion_says_the_command_that_takes_it_back(run, name, file):
    run("push", name, str(file))
    for ref, gone in ((f"{name}@latest", f"{name}:1"), (name, name)):
        deleted = run("delete", ref, "--yes")
        assert (deleted.code, f"`weighbridge restore {gone}`" in deleted.err) == (0, True)
        assert run("restore", gone).code == 0


def test_a_version_that_an_alias_points_at_is_not_deleted_and_says_what_to_do(run, name, file):
    run("push", name, str(file), "--alias", "prod")
    for force in ((), ("--force",)):
        refused = run("delete", f"{name}@prod", "--yes", *force)
        assert refused.code == 5
        assert "`prod` points at. Move or remove the alias first" in refused.err
    run("alias", "rm", name, "prod")
    assert run("delete", f"{name}:1", "--yes").code == 0


def test_failures_have_the_exit_codes_that_scripts_gate_on(run, name, file, tmp_path):
    class Harm:
        def __reduce__(self):
            return (os.system, ("true",))

    (tmp_path / "gift.pt").write_bytes(pickle.dumps({"weight": Harm()}))
    run("push", name, str(file), "--alias", "prod")

    assert run("show", name[:-1]).code == 4
    assert run("show", f"{name}@best").code == 4
    assert run("delete", f"{name}:1", "--yes").code == 5
    refused = run("push", name, str(tmp_path / "gift.pt"), "--json")
    assert (refused.code, refused.json["code"]) == (6, "unsafe_artifact")
    assert run("versions", name, "--json").json[0]["number"] == 1


def test_login_tries_the_service_and_remembers_it(run, live_server, monkeypatch):
    monkeypatch.delenv("WEIGHBRIDGE_URL", raising=False)

    ran = run("login", live_server.url, stdin="a-token\n")

    assert ran.code == 0
    assert SavedLogins.load() == SavedLogins(live_server.url, {live_server.url: "a-token"})
    assert run("list", "--limit", "1", "--json").code == 0


def test_login_to_nobody_remembers_nothing(run):
    assert run("login", "http://127.0.0.1:9", stdin="a-token\n").code == 1
    assert SavedLogins.load() == SavedLogins(None, {})


def test_the_installed_command_does_it_all_in_its_own_process(name, file, tmp_path):
    def weighbridge(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([SCRIPT, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    pushed = weighbridge("push", name, str(file))
    assert (pushed.returncode, pushed.stdout) == (0, f"{name}:1\n")
    assert weighbridge("download", name, "-o", "out").returncode == 0
    assert (tmp_path / "out" / "model.pt").read_bytes() == file.read_bytes()
    wrong = weighbridge("show", f"{name}:2")
    assert (wrong.returncode, wrong.stdout) == (4, "")
    assert "Traceback" not in wrong.stderr


def test_the_service_is_started_whatever_lies_in_the_working_folder(tmp_path):
    (tmp_path / "api.py").write_text("raise SystemExit('not ours')")
    done = subprocess.run([SCRIPT, "serve", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "--port" in done.stdout) == (0, True)


def test_show_says_what_the_module_takes_and_how_it_is_built(run, name, live_server):
    with Client(live_server.url) as hub:
        hub.push(
            name,
            timm.create_model("test_resnet", num_classes=4),
            pretrained_cfg={"class_names": ["cat", "dog", "cow", "owl"]},
        )

    shown = run("show", name).out

    for part in ('timm:create_model(model_name="test_resnet"', "4 (cat, dog, cow, …)", "fc", "3x160x160  bilinear"):
        assert part in shown
