import pytest
from file_host import file_host


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    """No test reads or writes what belongs to the user who runs it."""
    for name in ("URL", "TOKEN", "TEAM", "OFFLINE", "MIRROR"):
        monkeypatch.delenv(f"WEIGHBRIDGE_{name}", raising=False)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "user-cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user-config"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))


@pytest.fixture
def host():
    """A web server for files, on loopback."""
    with file_host() as running:
        yield running
