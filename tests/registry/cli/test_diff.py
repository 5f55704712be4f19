"""`weighbridge diff`, and what `show` says of where a version comes from."""

import pytest
import safetensors.torch
import torch


@pytest.fixture
def files(tmp_path):
    """A state_dict as `.pt`, its fine-tune as `.safetensors`, and a checkpoint of the first."""
    old = {"body.weight": torch.rand(10_000), "fc.weight": torch.ones(5, 100), "fc.bias": torch.zeros(5)}
    new = old | {"fc.weight": torch.ones(7, 100), "fc.bias": torch.zeros(7)}
    torch.save(old, tmp_path / "old.pt")
    safetensors.torch.save_file(new, tmp_path / "new.safetensors")
    torch.save({"epoch": 3, "model": old}, tmp_path / "last.ckpt")
    return tmp_path


def test_local_files_of_two_formats_are_compared(run, files):
    ran = run("diff", str(files / "old.pt"), str(files / "new.safetensors"))

    assert ran.code == 0
    assert "93.3 % of the new" in ran.out
    assert "fc.weight  5x100 float32  7x100 float32" in ran.out
    assert "body.weight" not in ran.out


def test_a_version_is_compared_with_a_local_checkpoint(run, name, files):
    run("push", name, str(files / "new.safetensors"))

    ran = run("diff", name, str(files / "last.ckpt"), "--json")
    part = run("diff", str(files / "last.ckpt"), name, "--part", "model", "--limit", "1", "--json")

    assert (ran.json["old"], ran.json["equal"]["count"], ran.json["reshaped"]["count"]) == (f"{name}:1", 1, 2)
    assert (part.json["is_equal"], part.json["reshaped"]["more"]) == (False, 1)
    assert run("diff", name, f"{name}:7").code == 4


def test_show_says_what_a_version_has_in_common_with_another_one(run, name, files):
    run("push", name, str(files / "old.pt"))
    run("push", name, str(files / "new.safetensors"))

    shown, document = run("show", name), run("show", name, "--json").json

    sentence = f"93.3 % of bytes shared with {name}:1; head has another shape (fc)"
    assert sentence in shown.out
    assert (document["lineage"]["text"], document["lineage"]["compared_with"]) == (sentence, f"{name}:1")
    assert "lineage" not in run("show", f"{name}:1").out
