"""`weighbridge storage` against a real service."""

import pytest
import torch


@pytest.fixture
def pushed(run, root, monkeypatch, tmp_path):
    """Two models of a team with the same file, which is larger than what is beside it."""
    team = f"team-{tmp_path.name.lower().replace('_', '-')}"[:40].strip("-")
    monkeypatch.setenv("WEIGHBRIDGE_URL", root.url)
    monkeypatch.setenv("WEIGHBRIDGE_TOKEN", root.connection.settings.token)
    torch.save({"w": torch.rand(100_000)}, tmp_path / "model.pt")
    for model in ("small", "tuned"):
        assert run("push", f"{team}/{model}", str(tmp_path / "model.pt")).code == 0
    return team


def test_a_team_is_told_what_sharing_saves(run, pushed):
    shown, document = run("storage", pushed), run("storage", pushed, "--json").json

    assert document["saved_bytes"] == document["stored_bytes"] > 400_000
    assert [each["own_bytes"] for each in document["models"]] == [0, 0]
    assert "(50 %)" in shown.out
    assert "small" in shown.out
    assert pushed in [each["team"] for each in run("storage", "--json").json]
    assert "SAVED" in run("storage").out
    assert run("storage", "nobody-here").code == 4
