"""A fresh installation with teams, from its first token to its audit, by the installed command alone."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from support.service import running

SCRIPT = str(Path(sys.executable).with_name("weighbridge"))


@dataclass(frozen=True)
class Person:
    """Somebody with a home of their own and the installed command."""

    home: Path

    def try_to(self, *arguments: str, stdin: str = "", token: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
        variables |= {"HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home), "XDG_CACHE_HOME": str(self.home)}
        variables |= {} if token is None else {"WEIGHBRIDGE_TOKEN": token}
        self.home.mkdir(exist_ok=True)
        return subprocess.run(
            [SCRIPT, *arguments],
            input=stdin, env=variables, cwd=self.home, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def do(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that must work, and return what it prints."""
        done = self.try_to(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, *arguments: str) -> tuple[int, str]:
        """Run a command that must fail, and return its exit code and what it says."""
        done = self.try_to(*arguments)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr


@pytest.mark.timeout(240)
def test_a_team_from_the_first_token_to_the_audit(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    variables["WEIGHBRIDGE_TEAMS"] = "true"
    file = tmp_path / "model.pt"
    torch.save({"fc.weight": torch.ones(3, 2)}, file)
    operator, writer, reader, maintainer, outsider = (
        Person(tmp_path / name) for name in ("operator", "ada", "bob", "max", "eve")
    )
    log = tmp_path / "service.log"

    with running(tmp_path, variables=variables) as service:
        (first,) = re.findall(r"\bwb_\w{16}_[0-9a-f]{64}\b", log.read_text())
        assert operator.try_to("login", service.url, stdin=first).returncode == 0
        operator.do("team", "create", "vision")
        operator.do("user", "add", "eve")
        for person, role in ((writer, "writer"), (reader, "reader"), (maintainer, "maintainer")):
            operator.do("user", "add", person.home.name)
            operator.do("team", "add", "vision", person.home.name, "--role", role)
        scopes = ("--scope", "read", "--scope", "push", "--scope", "promote", "--scope", "admin")
        tokens = {
            person: operator.do("token", "create", "laptop", "--user", person.home.name, *scopes)
            for person in (writer, reader, maintainer, outsider)
        }
        for person, token in tokens.items():
            person.do("login", service.url, stdin=token)

        assert writer.do("push", "vision/net", str(file)) == "vision/net:1\n"
        reader.do("download", "vision/net:1", "-o", "out")
        assert (reader.home / "out" / "model.pt").read_bytes() == file.read_bytes()
        code, said = reader.fails("push", "vision/net", str(file))
        assert (code, "takes the role `writer`" in said) == (3, True)
        assert outsider.do("list") == ""
        assert [outsider.fails(*tried)[0] for tried in (("show", "vision/net"), ("push", "vision/net", str(file)))] == [
            4, 4,
        ]  # fmt: skip

        assert writer.fails("alias", "vision/net:1", "prod")[0] == 3
        maintainer.do("alias", "vision/net:1", "prod", "--reason", "passed the review")
        writer.do("alias", "vision/net:1", "best")

        job = writer.do(
            "token", "create", "nightly", "--scope", "read", "--target", "vision/net", "--days", "7"
        ).strip()
        assert operator.try_to("show", "vision/net", token=job).returncode == 0
        assert operator.try_to("push", "vision/net", str(file), token=job).returncode == 3
        writer.do("token", "revoke", job[:19])
        assert operator.try_to("show", "vision/net", token=job).returncode == 3
        operator.do("user", "disable", "ada")
        assert writer.fails("show", "vision/net")[0] == 3

        entries = [json.loads(line) for line in operator.do("audit", "--export").splitlines()]
        done = [(each["actor"], each["action"]) for each in reversed(entries)]
        assert (job[:19], "login.fail") in done
        assert [each for each in done if each[1] != "login.fail"][-6:] == [
            ("ada", "version.push"), ("max", "alias.move"), ("ada", "alias.move"),
            ("ada", "token.create"), ("ada", "token.revoke"), ("admin", "user.update"),
        ]  # fmt: skip
        (move,) = [each for each in entries if each["actor"] == "max"]
        assert (move["team"], move["model"], move["version"]) == ("vision", "net", 1)
        assert (move["detail"]["reason"], move["token"]) == ("passed the review", tokens[maintainer][:19])
        told = json.dumps(entries) + log.read_text().replace(first, "")
        assert [token for token in (first, job, *tokens.values()) if token.strip() in told] == []

    with running(tmp_path, variables=variables):
        assert "first token" not in log.read_text()
