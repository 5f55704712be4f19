import pytest


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    """No test reads or writes what belongs to the user who runs it."""
    for name in ("URL", "TOKEN", "TOKEN_FILE", "TEAM", "OFFLINE"):
        monkeypatch.delenv(f"WEIGHBRIDGE_{name}", raising=False)
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "user-cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user-config"))
