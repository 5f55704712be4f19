"""The commands of teams, users, tokens and the audit against a real server process that asks for tokens."""

import json
import os
import pickle

import pytest
import torch

from registry.client.config import SavedLogins


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"fc.weight": torch.ones(3, 2)}, path)
    return str(path)


@pytest.fixture
def pushed(become, root, file):
    """A model with one version, of the test's team."""
    root.push(f"{become.team}/net", file)
    return f"{become.team}/net"


def test_a_new_token_goes_straight_to_login(run, become, guarded, monkeypatch):
    name = become("writer")
    made = run("token", "create", "laptop", "--scope", "push", "--target", become.team, "--days", "7")
    secret = made.out.removesuffix("\n")
    assert (made.code, len(secret.split())) == (0, 1)
    assert secret.rpartition("_")[0] in made.err
    assert secret not in made.err
    monkeypatch.delenv("WEIGHBRIDGE_TOKEN")
    monkeypatch.delenv("WEIGHBRIDGE_URL")

    # A token that may not read is as good as any to log in with.
    logged_in = run("login", guarded.url, stdin=made.out)

    assert logged_in.code == 0
    assert f"as {name}" in logged_in.err
    assert SavedLogins.load().tokens == {guarded.url: secret}
    shown = run("whoami").out
    for part in (name, guarded.url, "push", become.team, "writer", "in 6 days"):
        assert part in shown


def test_login_says_that_the_environment_goes_before_it(run, become, guarded, root):
    become("reader")
    ran = run("login", guarded.url, stdin=root.create_token("x", user=f"reader-of-{become.team}").token)
    assert (ran.code, "WEIGHBRIDGE_TOKEN is set" in ran.err) == (0, True)


def test_a_wrong_token_is_refused_with_the_way_in_and_not_kept(run, guarded, monkeypatch):
    monkeypatch.setenv("WEIGHBRIDGE_TOKEN", "a token that nobody knows")
    for ran in (run("login", guarded.url, stdin="wrong\n"), run("list", "--url", guarded.url)):
        assert ran.code == 3
        assert f"`weighbridge login {guarded.url}`" in ran.err
    assert "WEIGHBRIDGE_TOKEN" in ran.err
    assert SavedLogins.load().tokens == {}


def test_logging_out_goes_back_to_the_service_before(run, become, guarded, live_server, monkeypatch, root):
    become("reader")
    token = root.create_token("x", user=f"reader-of-{become.team}").token
    for name in ("URL", "TOKEN"):
        monkeypatch.delenv(f"WEIGHBRIDGE_{name}")
    run("login", live_server.url, stdin="any\n")
    run("login", guarded.url, stdin=token)

    ran = run("logout", "--revoke", "--json")

    assert ran.json == {"url": guarded.url, "revoked": token.rpartition("_")[0][:19], "default_url": live_server.url}
    assert SavedLogins.load() == SavedLogins(live_server.url, {live_server.url: "any"})
    assert run("whoami", "--url", guarded.url, "--token", token).code == 3
    assert run("logout").code == 0
    assert run("logout").code == 4


def test_tokens_are_listed_without_secrets_and_revoked_by_how_they_begin(run, become):
    become("writer")
    first, second = (run("token", "create", name).out.strip() for name in ("first", "second"))

    ran = run("token", "revoke", first)  # all of it, as people paste it

    assert ran.code == 0
    assert "first" in ran.err
    assert run("whoami", "--token", first).code == 3
    assert run("whoami", "--token", second).code == 0
    listed = run("token", "list")
    assert "revoked" in next(line for line in listed.out.splitlines() if "first" in line)
    assert first not in listed.out
    assert run("token", "revoke", "wb_" + "a" * 16).code == 4
    assert run("token", "list", "--all").code == 3


def test_a_token_that_ends_sooner_than_asked_says_so(run, become):
    become("writer")
    assert "ends when the token that made it does" in run("token", "create", "x", "--never").err


def test_a_token_for_everything_has_every_scope_and_shows_its_secret_in_no_notebook(run, become, root):
    name = become("reader")
    made = run("token", "create", "x", "--scope", "all", "--json").json
    assert made["scopes"] == ["admin", "promote", "push", "read"]
    token = root.create_token("x", user=name)
    assert token.token not in repr(token)


def test_rules_of_a_team_change_one_by_one(run, become):
    become("admin")
    team = become.team
    assert run("team", "set", team, "--protect", "staging", "--code-pushed-by", "nobody").code == 0
    changed = run("team", "set", team, "--unprotect", "prod", "--code-opened-by", "writer", "--json").json

    assert (changed["protected_aliases"], changed["code_pushed_by"]) == (["staging"], None)
    shown = run("team", "show", team).out
    for part in ("staging", "pushed by nobody, opened by writer", f"admin-of-{team}"):
        assert part in shown
    assert team in run("team", "list").out


@pytest.mark.parametrize(("text", "size_bytes"), [("2GiB", 2 << 30), ("1.5TB", 1_500_000_000_000), ("700", 700)])
def test_a_team_is_limited_and_shows_what_it_uses(run, become, pushed, file, root, text, size_bytes):
    team = become.team
    assert run("team", "quota", team, "--max-bytes", text).code == 0
    assert root.team(team).max_bytes == size_bytes
    assert run("team", "quota", team, "--max-bytes", "none", "--max-versions", "1").code == 0
    shown = run("team", "show", team).out
    assert " in 1 version" in shown
    assert "at most      1 version" in shown
    become("admin")
    refused = run("push", pushed, file)
    assert (refused.code, "versions" in refused.err) == (1, True)
    assert run("team", "quota", team, "--max-versions", "none").code == 3
    assert run("team", "quota", team, "--max-bytes", "much").code == 2


def test_what_is_in_quarantine_is_downloaded_for_a_reason_only(run, become, tmp_path, root):
    class Harm:
        def __reduce__(self):
            return (os.system, ("true",))

    (tmp_path / "gift.pt").write_bytes(pickle.dumps({"weight": Harm()}))
    name = become("admin")
    assert run("team", "set", become.team, "--unsafe", "quarantine").code == 0
    gift = run("push", f"{become.team}/net", str(tmp_path / "gift.pt"), "--json").json
    (sha256,) = [each["sha256"] for each in gift["artifacts"]]
    assert "in quarantine" in run("versions", f"{become.team}/net").out
    refused = run("download", f"{become.team}/net:1", "-o", str(tmp_path / "out"))
    assert refused.code == 3
    assert f"weighbridge quarantine override {become.team} {sha256} --reason" in refused.err

    assert run("quarantine", "override", become.team, sha256, "--reason", "the incident of May").code == 0

    assert run("download", f"{become.team}/net:1", "-o", str(tmp_path / "out")).code == 0
    assert "the incident of May" in run("quarantine", "list", become.team).out
    assert run("quarantine", "remove", become.team, sha256).code == 0
    assert run("quarantine", "list", become.team, "--json").json == []
    (opened,) = root.audit(team=become.team, action="unsafe.open")
    assert opened.actor == name


def test_a_version_that_others_are_based_on_is_deleted_by_force_alone(run, become, pushed, file):
    become("admin")
    run("push", pushed, file, "--base", f"{pushed}:1")
    refused = run("delete", f"{pushed}:1", "--yes")
    assert (refused.code, "--force" in refused.err) == (5, True)
    assert run("delete", f"{pushed}:1", "--yes", "--force").code == 0


def test_members_come_and_go_at_once(run, become, pushed, monkeypatch):
    become("outsider")
    assert run("show", pushed).code == 4
    theirs = run("token", "create", "x").out.strip()
    become("admin")
    added = run("team", "add", become.team, f"outsider-of-{become.team}", "--role", "reader")
    assert (added.code, "is reader" in added.err) == (0, True)
    assert run("show", pushed, "--token", theirs).code == 0
    assert run("team", "remove", become.team, f"outsider-of-{become.team}").code == 0
    assert run("show", pushed, "--token", theirs).code == 4


def test_a_disabled_user_is_out_until_enabled(run, become, root):
    name = become("reader")
    assert run("user", "disable", name).code == 3
    root.update_user(name, disabled=True)
    assert run("whoami").code == 3
    root.update_user(name, disabled=False)
    assert run("whoami").code == 0


def test_a_bare_name_belongs_to_the_only_team(run, become, pushed):
    become("reader")
    assert run("show", "net", "--json").json["team"] == become.team


def test_a_model_for_everyone_is_read_by_outsiders_and_looks_like_it(run, become, pushed, file):
    become("outsider")
    outsiders = run("token", "create", "x").out.strip()
    become("maintainer")
    assert run("visibility", pushed).out == "team\n"
    assert "READ BY" not in run("list", "--of-team", become.team).out
    assert run("visibility", pushed, "everyone").out == "everyone\n"

    assert "everyone" in run("list", "--of-team", become.team).out
    assert "everyone who has a token" in run("show", pushed, "--token", outsiders).out
    assert run("push", pushed, file, "--token", outsiders).code == 3
    assert run("visibility", pushed, "team", "--json").json["visibility"] == "team"
    assert run("show", pushed, "--token", outsiders).code == 4


@pytest.mark.parametrize(
    ("role", "arguments", "code", "says"),
    [
        ("reader", ("push", "TEAM/net", "FILE"), 3, "`writer`"),
        ("writer", ("alias", "TEAM/net:1", "prod"), 3, "`maintainer`"),
        ("maintainer", ("team", "add", "TEAM", "x", "--role", "reader"), 3, "`admin`"),
        ("admin", ("user", "add", "x"), 3, "administrators"),
        ("outsider", ("push", "TEAM/net", "FILE"), 4, "may not see it"),
        ("outsider", ("team", "show", "TEAM"), 4, "no member"),
        ("admin", ("team", "add", "TEAM", "nobody-at-all", "--role", "reader"), 4, "weighbridge user add"),
        ("admin", ("token", "create", "x", "--user", "somebody"), 3, "administrators"),
    ],
)
def test_who_may_not_is_told_what_it_takes(run, become, pushed, file, role, arguments, code, says):
    become(role)
    ran = run(*(each.replace("TEAM", become.team).replace("FILE", file) for each in arguments))
    assert (ran.code, says in ran.err) == (code, True)


def test_a_token_without_the_scope_says_which_it_lacks(run, become, pushed, file):
    become("admin", ["read"])
    ran = run("push", pushed, file)
    assert (ran.code, "scope `push`" in ran.err) == (3, True)
    assert run("push", pushed, file, "--json").json["code"] == "permission_denied"


def test_a_push_needs_no_other_scope_and_what_looks_first_needs_read(run, become, pushed, file):
    become("maintainer", ["push", "promote"])
    assert run("push", pushed, file, "--alias", "prod").out == f"{pushed}:2\n"
    ran = run("alias", f"{pushed}:1", "prod")
    assert (ran.code, "scope `read`" in ran.err) == (3, True)


def test_what_is_there_already_is_a_conflict(run, become):
    assert run("team", "create", become.team).code == 5
    assert run("user", "add", f"new-of-{become.team}", "--administrator").code == 0
    assert run("user", "add", f"new-of-{become.team}").code == 5


def test_the_audit_tells_who_did_what_and_can_be_narrowed(run, become, pushed, file):
    name = become("admin")
    run("push", pushed, file)
    run("visibility", pushed, "everyone")

    table = run("audit", "--team", become.team).out.splitlines()
    assert table[0].split()[:3] == ["WHEN", "(UTC)", "WHO"]
    assert name in table[1]
    assert "model.update" in table[1]
    assert "visibility=everyone" in table[1]
    narrowed = run("audit", "--model", pushed, "--actor", name, "--action", "version.push", "--json").json
    assert [(each["model"], each["version"]) for each in narrowed] == [("net", 2)]
    assert len(run("audit", "--team", become.team, "--limit", "1", "--json").json) == 1
    assert run("audit", "--team", become.team, "--until", "2026-01-01").out == ""
    refused = run("audit")
    assert (refused.code, "--team TEAM" in refused.err) == (3, True)


def test_a_day_to_look_until_counts(run, become):
    today = run("audit", "--team", become.team, "--json").json[0]["at"][:10]
    assert run("audit", "--team", become.team, "--since", today, "--until", today, "--json").json != []


def test_the_audit_is_exported_whole_as_lines_of_json(run, become, pushed, root):
    for number in range(120):
        root.annotate(pushed, metrics={"loss": number})

    ran = run("audit", "--team", become.team, "--export")

    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [each["action"] for each in lines].count("version.annotate") == 120
    assert [each["id"] for each in lines] == sorted((each["id"] for each in lines), reverse=True)
    assert lines == [each.model_dump(mode="json") for each in root.audit(team=become.team, limit=None)]


def test_every_answer_comes_as_json_too(run, become, root):
    team = become.team
    user = become("admin")
    root.update_user(user, administrator=True)
    assert run("whoami", "--json").json["roles"] == {team: "admin"}
    assert run("team", "create", f"{team}-2", "--json").json["name"] == f"{team}-2"
    assert run("team", "list", "--json").json[0]["name"]
    assert run("team", "show", team, "--json").json["members"][0]["user"] == user
    assert run("user", "add", f"new-of-{team}", "--json").json["administrator"] is False
    assert run("user", "set", f"new-of-{team}", "--administrator", "--json").json["administrator"] is True
    assert run("user", "disable", f"new-of-{team}", "--json").json["disabled_at"] is not None
    assert run("user", "enable", f"new-of-{team}", "--json").json["disabled_at"] is None
    assert user in [each["name"] for each in run("user", "list", "--json").json]
    assert run("team", "add", team, f"new-of-{team}", "--role", "writer", "--json").json["role"] == "writer"
    assert run("team", "remove", team, f"new-of-{team}", "--json").json["removed"] == f"new-of-{team}"
    made = run("token", "create", "x", "--user", f"new-of-{team}", "--json").json
    assert made["token"].startswith(made["prefix"])
    assert run("token", "list", "--user", f"new-of-{team}", "--json").json[0]["prefix"] == made["prefix"]
    assert run("token", "revoke", made["prefix"], "--json").json["revoked_at"] is not None
