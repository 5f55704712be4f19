"""docs/teams.md and docs/administration.md against the rules and records that they describe."""

import re

import pytest
from installation import ROOT

from registry.cli.group import COMMANDS, commands
from registry.teams import Role, Scope
from storage.access import RULES

TEAMS = (ROOT / "docs" / "teams.md").read_text()
ADMINISTRATION = (ROOT / "docs" / "administration.md").read_text()
SINGLE_SIGN_ON = (ROOT / "docs" / "single-sign-on.md").read_text()


def test_the_table_of_roles_says_what_the_rules_are() -> None:
    rows = re.findall(r"^\| [^|]+ \| `(\w+)` \|([^`]*)\| `(\w+)` \|$", TEAMS, re.MULTILINE)
    documented = {action: ([cell.strip() for cell in cells.split("|")], scope) for action, cells, scope in rows}
    assert documented == {
        action.value: (
            ["yes" if rule.role is not None and role.reaches(rule.role) else "" for role in Role],
            rule.scope.value,
        )
        for action, rule in RULES.items()
    }


def test_every_scope_is_explained() -> None:
    assert {scope.value for scope in Scope} <= set(re.findall(r"^\| `(\w+)` \|", TEAMS, re.MULTILINE))


def test_every_action_of_the_audit_is_listed() -> None:
    source = "".join(path.read_text() for path in (ROOT / "storage").rglob("*.py"))
    recorded = set(re.findall(r'(?:record|note)\(\s*(?:session,\s*)?[\w.]+,\s*"(\w+\.\w+)"', source))
    table = ADMINISTRATION[ADMINISTRATION.index("| what | actions |") :]
    assert len(recorded) > 15
    assert set(re.findall(r"`(\w+\.\w+)`", table)) == recorded


@pytest.mark.parametrize("page", [TEAMS, ADMINISTRATION, SINGLE_SIGN_ON], ids=["teams", "administration", "sso"])
def test_every_command_and_option_that_the_pages_show_exists(page: str) -> None:
    shown = re.findall(r"^(?:.* \| )?weighbridge ([^#|>\n]+)", page, re.MULTILINE)
    assert len(shown) > 5
    for line in shown:
        words = line.split()
        if words[0] not in COMMANDS or words[0] in {"serve", "admin"}:
            assert words[0] in {"serve", "admin"}, line
            continue
        command = commands.get_command(None, words[0])  # pyright: ignore[reportArgumentType] - needs no context
        if hasattr(command, "commands"):
            command = command.commands.get(words[1])
        assert command is not None, line
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, line
