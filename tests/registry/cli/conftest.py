import hashlib
import json
import os
import sys
from dataclasses import dataclass

import pytest
from support.service import running

from registry.cli import main
from registry.client.client import Client
from registry.teams import Role, Scope

ADMINISTRATOR = "the administrator's token of these tests"


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
    for name in ("URL", "TOKEN", "TOKEN_FILE", "TEAM", "OFFLINE"):
        monkeypatch.delenv(f"WEIGHBRIDGE_{name}", raising=False)
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "user-cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user-config"))


@pytest.fixture
def name(request, live_server, monkeypatch):
    """A model of this test's own, on a server that tests share."""
    monkeypatch.setenv("WEIGHBRIDGE_URL", live_server.url)
    return "vision/" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


@pytest.fixture(scope="session")
def guarded(tmp_path_factory):
    """A real server process that asks for tokens; its administrator's is `ADMINISTRATOR`."""
    settings = {"WEIGHBRIDGE_TEAMS": "true", "WEIGHBRIDGE_TOKEN": ADMINISTRATOR}
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    command = [sys.executable, "-m", "api", "serve"]
    with running(tmp_path_factory.mktemp("guarded"), command, {**variables, **settings}) as service:
        yield service


@pytest.fixture
def root(guarded, tmp_path):
    """The administrator's client of that server."""
    with Client(guarded.url, ADMINISTRATOR, cache_dir=tmp_path / "cache", progress=False) as client:
        yield client


@pytest.fixture
def become(request, guarded, monkeypatch, root):
    """A function that goes on as a user of the test's own, made with a role in its `team`, and returns their name."""
    team = "team-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:8]
    monkeypatch.setenv("WEIGHBRIDGE_URL", guarded.url)
    monkeypatch.setenv("WEIGHBRIDGE_TOKEN", ADMINISTRATOR)
    root.create_team(team)

    def become(role, scopes=tuple(Scope)):
        name = f"{role}-of-{team}"
        root.create_user(name)
        if role in set(Role):
            root.set_member(team, name, role)
        monkeypatch.setenv("WEIGHBRIDGE_TOKEN", root.create_token("test", user=name, scopes=scopes).token)
        return name

    become.team = team
    return become


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
