"""What belongs to another team answers like what does not exist: same status, headers and words, whoever asks."""

import json

import pytest
from attacks import OPERATIONS, content_of, fill, form, harm_of, make_token, parameters_of, weights_of
from embedded import API, make_weights

STRANGERS = ["vision-admin", "vision-reader", "outsider", "narrow"]
OF_A_TEAM = [name for name in OPERATIONS if {"team", "prefix"} & set(parameters_of(name, "path"))]
THERE = {
    "team": "audio", "model": "audio-net", "version": "1", "number": "1", "alias": "gold", "path": "model.pt",
    "filename": "model.pt", "user": "audio-reader", "upload_id": "0" * 32, "position": "0",
    "other": "1",
}  # fmt: skip
# Names of the same length, so that whatever repeats them is as long.
ELSEWHERE = {
    "no such team": {"team": "audix"},
    "no such model": {"model": "audio-nex"},
    "no such version": {"version": "7", "number": "7"},
    "no such alias": {"alias": "golx", "version": "golx"},
    "no such artifact": {"path": "modex.pt", "filename": "modex.pt"},
    "no such upload": {"upload_id": "1" * 32},
    "no such other version": {"other": "7"},
    "no such user": {"user": "audio-readex"},
    "in quarantine": {"version": "2", "number": "2"},
}
LEFT_OUT = {"x-request-id", "date"}


@pytest.fixture(scope="module")
def theirs(site):
    """What there really is of the team `audio`: names, digests, how a token begins."""
    versions = [site.ask("GET", f"{API}/models/audio/audio-net/versions/{number}").json() for number in (1, 2)]
    digests = [version["artifacts"][0]["sha256"] for version in versions]
    plan = {"metadata": {"artifacts": {"model.pt": {"size_bytes": 1000}}}}
    upload = site.ask("POST", f"{API}/models/audio/audio-net/uploads", "audio-admin", plan).json()["id"]
    known = {"prefix": site.tokens["audio-writer"][:19], "sha256": digests[1], "tensors": digests[0]}
    return {**THERE, **known, "upload_id": upload}


def told(site, who, operation_id, names):
    """Return all that somebody is told, with the names that they gave taken out."""
    method, path, _ = OPERATIONS[operation_id]
    headers, body = content_of(operation_id)
    answer = site.request(method, fill(path, names), {**headers, "Authorization": f"Bearer {site.tokens[who]}"}, body)
    return without(answer, names)


def without(answer, names):
    headers = sorted((name.lower(), value) for name, value in answer.headers if name.lower() not in LEFT_OUT)
    document = json.loads(answer.body) if answer.body else {}
    document.pop("request_id", None)
    text = json.dumps(document)
    for name in sorted(map(str, names.values()), key=len, reverse=True):
        if len(name) > 1:
            text = text.replace(name, "…")
    return answer.status, headers, text


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("operation_id", OF_A_TEAM)
def test_every_operation_on_what_is_anothers_answers_as_if_it_were_not_there(site, theirs, operation_id, who):
    nothing = theirs | {"team": "audix", "prefix": "wb_" + "a" * 16, "sha256": "sha256:" + "0" * 64}
    there = told(site, who, operation_id, theirs)

    assert there == told(site, who, operation_id, nothing)
    assert there[0] >= 400
    for different in ELSEWHERE.values():
        assert there == told(site, who, operation_id, theirs | different)


@pytest.mark.parametrize("operation_id", [name for name in OF_A_TEAM if OPERATIONS[name][0] in {"GET", "HEAD"}])
def test_the_walk_reaches_what_its_owner_reaches(site, theirs, operation_id):
    """Else the answers above would be alike for another reason."""
    method, path, _ = OPERATIONS[operation_id]

    assert site.ask(method, fill(path, theirs), "audio-admin").status == 200


def test_a_token_for_one_model_learns_nothing_of_its_siblings(site):
    assert site.ask("PUT", f"{API}/models/vision/sibling/upload/model.pt", body=make_weights(3)).status == 201
    for operation_id in [name for name in OF_A_TEAM if "model" in parameters_of(name, "path")]:
        names = THERE | {"team": "vision", "sha256": "sha256:" + "0" * 64}
        there, missing = (
            told(site, "narrow", operation_id, names | {"model": model}) for model in ("sibling", "siblinx")
        )
        assert there == missing, operation_id
        assert there[0] in {403, 404}, operation_id


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize(
    "query",
    [
        "models?team={team}", "models?search={model}", "audit?team={team}", "audit/export?team={team}",
        "audit?team={team}&model={model}", "tokens?user={user}", "models?team={team}&kind=state_dict",
    ],
)  # fmt: skip
def test_lists_that_are_asked_for_another_team_are_those_of_no_team(site, theirs, query, who):
    def ask(names):
        return without(site.ask("GET", f"{API}/{query.format(**names)}", who), names)

    assert ask(theirs) == ask(theirs | {"team": "audix", "model": "audio-nex", "user": "audio-readex"})


def test_no_list_of_a_stranger_holds_anything_of_anothers(site, theirs):
    for who in STRANGERS:
        for path in ("models?limit=1000", "teams", "tokens", "whoami", f"models?search={theirs['tensors']}"):
            assert "audio" not in site.ask("GET", f"{API}/{path}", who).body.decode()
        found = site.ask("POST", f"{API}/compatible", who, {"architecture": architecture_of(site), "team": "audio"})
        assert (found.status, found.json()) == (200, {"items": []})


def architecture_of(site):
    manifest = site.ask("GET", f"{API}/models/audio/audio-net/versions/1/manifest").json()["artifacts"][0]["manifest"]
    return {"tensors": [{name: each[name] for name in ("name", "shape", "dtype")} for each in manifest["tensors"]]}


@pytest.mark.parametrize("sort", ["name", "-updated", "created"])
def test_a_cursor_of_another_team_opens_nothing(site, sort):
    for number in range(2):
        upload = f"{API}/models/audio/page-{number}/upload/model.pt"
        assert site.ask("PUT", upload, "audio-writer", make_weights(number)).status == 201
    cursor = site.ask("GET", f"{API}/models?sort={sort}&limit=1", "audio-reader").json()["cursor"]

    for path in (f"models?sort={sort}&cursor={cursor}", f"models?team=audio&sort={sort}&cursor={cursor}"):
        answer = site.ask("GET", f"{API}/{path}", "vision-reader")
        assert "audio" not in answer.body.decode()
    assert site.ask("GET", f"{API}/audit?team=audio&cursor={cursor}", "vision-admin").code == "team_not_found"
    assert site.ask("GET", f"{API}/teams/audio/members?cursor={cursor}", "vision-admin").code == "team_not_found"


@pytest.mark.parametrize("way", ["query", "form"])
@pytest.mark.parametrize("who", ["vision-admin", "vision-writer"])
def test_a_base_of_another_team_is_no_base(site, theirs, who, way):
    def push(base):
        names = {"base": base}
        if way == "query":
            return site.ask(
                "PUT", f"{API}/models/vision/based/upload/model.pt?base={base}", who, make_weights(9)
            ), names
        headers, body = form(("model.pt", make_weights(9)), fields=names)
        token = {"Authorization": f"Bearer {site.tokens[who]}"}
        return site.request("POST", f"{API}/models/vision/based/versions", {**headers, **token}, body), names

    real = ["audio/audio-net:1", "audio/audio-net@gold", "audio/audio-net:2", f"audio/audio-net@{theirs['tensors']}"]
    none = ["audix/audio-net:1", "audio/audio-nex@gold", "audio/audio-net:9", f"audio/audio-nex@sha256:{'0' * 64}"]
    for there, missing in zip(real, none, strict=True):
        answers = [push(base) for base in (there, missing)]
        statuses = [(answer.status, answer.code) for answer, _ in answers]
        words = [
            answer.json()["detail"].replace("audix", "audio").replace("audio-nex", "audio-net") for answer, _ in answers
        ]
        assert statuses == [(404, "model_not_found")] * 2
        assert words[0] == words[1]
    assert site.ask("GET", f"{API}/models/vision/based").status == 404


def test_a_key_that_another_team_or_user_used_is_a_fresh_one(site):
    content = make_weights(31)

    def push(who, team, model, data=content):
        upload = f"{API}/models/{team}/{model}/upload/model.pt"
        return site.ask("PUT", upload, who, data, Idempotency_Key="shared-by-chance")

    first = push("audio-writer", "audio", "keyed")
    others = [push("vision-writer", "vision", "keyed"), push("vision-admin", "vision", "keyed", make_weights(32))]

    assert [each.status for each in (first, *others)] == [201] * 3
    assert [(each.json()["team"], each.json()["number"]) for each in others] == [("vision", 1), ("vision", 2)]
    stranger = push("vision-writer", "audio", "keyed")
    assert (stranger.status, stranger.code) == (404, "model_not_found")


@pytest.mark.parametrize(
    "headers", [{"If_None_Match": "*"}, {"If_None_Match": "{tag}"}, {"If_Range": "{tag}", "Range": "bytes=0-9"}]
)
def test_knowing_a_digest_opens_nothing(site, theirs, headers):
    tag = f'"{theirs["tensors"].removeprefix("sha256:")}"'
    given = {name: value.format(tag=tag) for name, value in headers.items()}
    paths = [
        "audio/audio-net/versions/1/artifacts/model.pt",
        f"audio/audio-net/versions/{theirs['tensors']}/artifacts/model.pt",
    ]
    for path in paths:
        for method in ("GET", "HEAD"):
            assert site.ask(method, f"{API}/models/{path}", "vision-admin", **given).status == 404
    for digest in (theirs["tensors"], theirs["sha256"]):
        ours = site.ask("GET", f"{API}/models/vision/vision-net/versions/{digest}", "vision-admin")
        none = site.ask("GET", f"{API}/models/vision/vision-net/versions/sha256:{'0' * 64}", "vision-admin")
        assert (ours.status, ours.code) == (none.status, none.code) == (404, "version_not_found")
    own = site.ask(
        "GET", f"{API}/models/vision/vision-net/versions/1/artifacts/model.pt", "vision-reader", If_None_Match=tag
    )
    assert own.status == 200


def test_an_override_for_bytes_of_another_team_opens_nothing_there(site, theirs):
    override = f"{API}/teams/vision/overrides/{theirs['sha256']}"
    unknown = f"{API}/teams/vision/overrides/sha256:{'1' * 64}"

    made = [site.ask("PUT", path, "vision-admin", {"reason": "x"}) for path in (override, unknown)]

    assert [each.status for each in made] == [200, 200]
    assert sorted(made[0].json()) == sorted(made[1].json())
    path = f"{API}/models/audio/audio-net/versions/2/artifacts/model.pt"
    assert site.ask("GET", path, "vision-admin").code == "model_not_found"
    assert [site.ask("DELETE", each, "vision-admin").status for each in (override, unknown)] == [204, 204]


def test_what_is_in_quarantine_is_not_there_for_who_may_not_see_it(site, theirs):
    quarantined = f"{API}/models/audio/audio-net/versions"
    for who in ("audio-reader", "audio-writer", "audio-maintainer"):
        for tail in ("", "/manifest", "/manifests/model.pt", "/artifacts/model.pt"):
            there, missing = (without(site.ask("GET", f"{quarantined}/{number}{tail}", who), {}) for number in (2, 7))
            assert (there[0], there[2].replace("version 2", "version 7")) == (missing[0], missing[2])
        assert site.ask("GET", f"{quarantined}/{theirs['sha256']}", who).status == 404


def test_the_end_of_anothers_token_is_refused_like_that_of_none(site):
    before = site.ask("GET", f"{API}/whoami", "audio-writer").status
    theirs = site.tokens["audio-writer"][:19]
    answers = [
        without(site.ask("DELETE", f"{API}/tokens/{each}", "vision-admin"), {"prefix": each})
        for each in (theirs, "wb_" + "b" * 16)
    ]

    assert answers[0] == answers[1]
    assert (before, site.ask("GET", f"{API}/whoami", "audio-writer").status) == (200, 200)


def test_a_member_that_leaves_becomes_a_stranger_at_once(site):
    site.ask("PUT", f"{API}/users/leaver", body={})
    site.ask("PUT", f"{API}/teams/audio/members/leaver", body={"role": "reader"})
    site.tokens["leaver"] = make_token(site, "leaver")
    path = f"{API}/models/audio/audio-net"

    inside = site.ask("GET", path, "leaver").status
    site.ask("DELETE", f"{API}/teams/audio/members/leaver")
    outside, missing = (
        without(site.ask("GET", each, "leaver"), {"path": each[-9:]})
        for each in (path, f"{API}/models/audio/audio-nex")
    )

    assert (inside, outside) == (200, missing)


def test_equal_bytes_of_two_teams_are_two_objects(site):
    content = weights_of("audio")
    pushed = site.ask("PUT", f"{API}/models/vision/equal/upload/model.pt", "vision-writer", content)
    deleted = site.ask("DELETE", f"{API}/models/vision/equal/versions/1", "vision-admin")
    purged = site.ask("POST", f"{API}/models/vision/equal/versions/1/purge", "vision-admin", {"reason": "x"})

    assert (pushed.status, deleted.status) == (201, 200)
    assert (purged.json()["freed_bytes"], purged.json()["held_by"]) == (len(content), [])
    assert (
        site.ask("GET", f"{API}/models/audio/audio-net/versions/1/artifacts/model.pt", "audio-reader").body == content
    )


def test_a_token_for_one_model_is_told_of_other_holders_only_how_many_there_are(site):
    content = make_weights(41)
    numbers = {}
    for model in ("vision-net", "holder-a", "holder-b"):
        pushed = site.ask("PUT", f"{API}/models/vision/{model}/upload/model.pt", "vision-admin", content)
        numbers[model] = pushed.json()["number"]
    purge = f"{API}/models/vision/vision-net/versions/{numbers['vision-net']}/purge"

    told = site.ask("POST", purge, "narrow", {"reason": "x", "now": True}).json()
    other = f"{API}/models/vision/holder-a/versions/1/purge"
    told_all = site.ask("POST", other, "vision-admin", {"reason": "x", "now": True}).json()

    assert (told["held_by"], told["held_by_more"]) == ([], 2)
    assert (told_all["held_by"], told_all["held_by_more"]) == (["vision/holder-b:1"], 0)


def test_a_token_for_one_model_is_told_of_models_based_on_it_only_how_many_there_are(site):
    base = site.ask("PUT", f"{API}/models/vision/vision-net/upload/model.pt", "vision-admin", make_weights(42)).json()
    reference = f"vision/vision-net:{base['number']}"
    for model in ("tuned-a", "tuned-b"):
        upload = f"{API}/models/vision/{model}/upload/model.pt?base={reference}"
        assert site.ask("PUT", upload, "vision-admin", make_weights(43)).status == 201
    version = f"{API}/models/vision/vision-net/versions/{base['number']}"

    told, told_all = (site.ask("DELETE", version, who) for who in ("narrow", "vision-admin"))

    assert (told.status, told.code, told.json()["bases"], told.json()["more_bases"]) == (409, "version_in_use", [], 2)
    assert "tuned" not in told.body.decode()
    assert "2 that you may not see" in told.json()["detail"]
    assert told_all.json()["bases"] == ["vision/tuned-a:1", "vision/tuned-b:1"]


@pytest.mark.parametrize("who", ["audio-reader", "audio-maintainer", "audio-admin"])
def test_versions_in_quarantine_are_not_counted(site, who):
    model = site.ask("GET", f"{API}/models/audio/audio-net", who).json()
    listed = site.ask("GET", f"{API}/models?team=audio&search=audio-net", who).json()["items"][0]

    assert model["version_count"] == listed["version_count"] == 1


def test_deleting_and_restoring_what_is_in_quarantine_changes_no_count(site):
    upload = f"{API}/models/vision/counted/upload/model.pt"
    counts = [site.ask("PUT", upload, "vision-writer", harm_of("again")).status]
    model, version = f"{API}/models/vision/counted", f"{API}/models/vision/counted/versions/1"
    for method, path in (("DELETE", version), ("POST", f"{version}/restore"), ("DELETE", version)):
        counts.append(site.ask("GET", model, "vision-reader").json()["version_count"])
        assert site.ask(method, path, "vision-admin").status == 200

    assert counts == [201, 0, 0, 0]
    assert site.ask("GET", model, "vision-reader").json()["version_count"] == 0
