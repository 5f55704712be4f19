import hashlib
import json
from dataclasses import dataclass

import pytest

from registry.cli import main


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    """No test reads or writes what belongs to the user who runs it."""
    for name in ("URL", "TOKEN", "TEAM", "OFFLINE"):
        monkeypatch.delenv(f"WEIGHBRIDGE_{name}", raising=False)
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "user-cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user-config"))


@pytest.fixture
def name(request, live_server, monkeypatch):
    """A model of this test's own, on a server that tests share."""
    monkeypatch.setenv("WEIGHBRIDGE_URL", live_server.url)
    return "vision/" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process, as the console script does."""

    def run(*arguments: str, stdin: str = "") -> Ran:
        import io

        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = capsys.readouterr()
        return Ran(int(ended.value.code or 0), said.out, said.err)

    return run
