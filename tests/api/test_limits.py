"""What one caller, one team and one process may ask for, and how they are told that it is too much."""

import asyncio
import json
import time
from contextlib import ExitStack

import pytest
from migrated import migrated_data
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from api.app import PREFIX, create_app
from api.limits import (
    FAILED_LOGINS_PER_MINUTE,
    MAX_KEYS,
    NOTED_LOGINS_PER_MINUTE,
    Buckets,
    CostlyLogins,
    FailedLogins,
    OpenStreams,
    network_of,
)
from api.planned import LEAST_OF_A_PART, MOST_OF_A_PART, PARTS_BYTES, share_of_memory
from api.settings import Settings
from registry.errors import IdentityProviderUnavailableError, RateLimitedError

TOKEN = "the administrator's token of this test"
ADMINISTRATOR = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def serve(tmp_path):
    """Return a function that opens a service that needs tokens, with these settings."""

    def serve(**settings):
        app = create_app(Settings(data=migrated_data(tmp_path / "data"), teams=True, token=TOKEN, **settings))
        client = TestClient(app, base_url="http://models.example.com")
        clients.enter_context(client)
        return client

    with ExitStack() as clients:
        yield serve


def make_user(client, name, role="writer"):
    client.put(f"{PREFIX}/users/{name}", json={}, headers=ADMINISTRATOR)
    client.put(f"{PREFIX}/teams/vision", json={}, headers=ADMINISTRATOR)
    client.put(f"{PREFIX}/teams/vision/members/{name}", json={"role": role}, headers=ADMINISTRATOR)
    create = {"name": "test", "user": name, "scopes": ["read", "push", "admin"]}
    return bearer(client.post(f"{PREFIX}/tokens", json=create, headers=ADMINISTRATOR).json()["token"])


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_bucket_gives_what_is_in_it_at_once_and_fills_up_evenly():
    clock = Clock()
    buckets = Buckets(6, clock)

    assert [buckets.take("ada") for _ in range(7)] == [0] * 6 + [10]
    assert buckets.take("bob") == 0
    clock.now = 9
    assert buckets.take("ada") == pytest.approx(1)
    clock.now = 10.5
    assert [buckets.take("ada") for _ in range(2)] == [0, pytest.approx(9.5)]
    clock.now = 1000
    assert [buckets.take("ada") for _ in range(7)] == [0] * 6 + [10]


def test_buckets_remember_a_bounded_number_of_callers():
    buckets = Buckets(1, Clock())
    for number in range(MAX_KEYS + 10):
        buckets.take(str(number))

    assert len(buckets._levels) == MAX_KEYS
    assert buckets.take("0") == 0
    assert buckets.take(str(MAX_KEYS)) > 0


def test_addresses_of_one_ipv6_customer_count_as_one():
    assert network_of("2001:db8:1:2::3") == network_of("2001:db8:1:2:ffff::9") != network_of("2001:db8:1:3::3")
    assert network_of("192.0.2.1") != network_of("192.0.2.2")


def test_the_audit_is_told_of_some_failed_logins_and_how_many_were_left_out():
    clock = Clock()
    failed = FailedLogins(clock)

    assert [failed.note("192.0.2.1") for _ in range(8)] == [0] * NOTED_LOGINS_PER_MINUTE + [None] * 3
    assert failed.note("192.0.2.2") == 0
    clock.now = 60
    assert [failed.note("192.0.2.1") for _ in range(2)] == [3, 0]


def test_many_addresses_together_cannot_flood_the_audit():
    failed = FailedLogins(Clock())
    noted = [failed.note(f"192.0.{number // 250}.{number % 250}") for number in range(500)]

    assert sum(each is not None for each in noted) == 60


def test_costly_logins_are_counted_while_they_last_and_for_good_when_they_fail():
    clock = Clock()
    logins = CostlyLogins(3, clock)

    for _ in range(10):
        with logins.one("192.0.2.1"):
            pass
    with ExitStack() as waiting:
        for _ in range(3):
            waiting.enter_context(logins.one("192.0.2.1"))
        with pytest.raises(RateLimitedError), logins.one("192.0.2.1"):
            pass
    for _ in range(3):
        with pytest.raises(IdentityProviderUnavailableError), logins.one("192.0.2.1"):
            raise IdentityProviderUnavailableError("away")
    with pytest.raises(RateLimitedError), logins.one("192.0.2.1"):
        pass
    clock.now = 20
    with logins.one("192.0.2.1"):
        pass


def test_each_token_has_its_own_number_of_requests_and_is_told_when_to_come_again(serve):
    client = serve(requests_per_minute=10)
    ada, bob = make_user(client, "ada"), make_user(client, "bob")

    answers = [client.get(f"{PREFIX}/whoami", headers=ada) for _ in range(12)]

    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 2
    assert answers[-1].json()["code"] == "rate_limited"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 6
    assert client.get(f"{PREFIX}/whoami", headers=bob).status_code == 200


def test_without_a_token_the_address_is_counted_and_health_is_never_refused(serve):
    client = serve(requests_per_minute=3)

    assert [client.get(f"{PREFIX}/models").status_code for _ in range(5)] == [401] * 3 + [429] * 2
    assert {client.get(path).status_code for path in ("/healthz", "/readyz", "/metrics") for _ in range(5)} == {200}


def test_an_open_service_counts_nothing_unless_it_is_told_to(tmp_path):
    assert Settings(data=tmp_path).request_limit == Settings(data=tmp_path).upload_limit == 0
    assert Settings(data=tmp_path, requests_per_minute=3).request_limit == 3
    guarded = Settings(data=tmp_path, teams=True)
    assert (guarded.request_limit, guarded.upload_limit, guarded.open_uploads) == (1200, 16, 256)


def test_failed_logins_are_audited_without_the_token_and_refused_when_there_are_many(serve):
    client = serve()
    looks_like_one = "wb_aaaaaaaaaaaaaaaa_" + "5" * 64
    refused = [client.get(f"{PREFIX}/models", headers=bearer("hunter2"))]
    refused += [client.get(f"{PREFIX}/models", headers=bearer(looks_like_one)) for _ in range(70)]

    assert [each.status_code for each in refused].count(401) in range(FAILED_LOGINS_PER_MINUTE, 66)
    assert refused[-1].json()["code"] == "rate_limited"
    assert client.get(f"{PREFIX}/models", headers=ADMINISTRATOR).status_code == 200
    audit = client.get(f"{PREFIX}/audit", params={"action": "login.fail"}, headers=ADMINISTRATOR)
    entries = audit.json()["items"]
    assert len(entries) in range(NOTED_LOGINS_PER_MINUTE, NOTED_LOGINS_PER_MINUTE + 3)
    assert (entries[-1]["actor"], entries[-2]["actor"]) == ("unknown", "wb_aaaaaaaaaaaaaaaa")
    assert {each["address"] for each in entries} == {"testclient"}
    assert "hunter2" not in audit.text
    assert "555" not in audit.text


def noted_failures(client):
    audit = client.get(f"{PREFIX}/audit", params={"action": "login.fail", "limit": 1000}, headers=ADMINISTRATOR)
    return sum(1 + entry["detail"].get("left_out", 0) for entry in audit.json()["items"])


def test_failed_logins_that_were_left_out_are_told_a_little_later(serve, monkeypatch):
    monkeypatch.setattr("api.collector.TELL_SECONDS", 0.05)
    client = serve()
    for _ in range(30):
        client.get(f"{PREFIX}/models", headers=bearer("hunter2"))

    until = time.monotonic() + 10
    while noted_failures(client) < 30 and time.monotonic() < until:
        time.sleep(0.05)

    assert noted_failures(client) == 30


def test_failed_logins_that_were_left_out_are_told_when_the_service_stops(tmp_path):
    settings = Settings(data=migrated_data(tmp_path / "data"), teams=True, token=TOKEN)
    with TestClient(create_app(settings)) as client:
        for _ in range(30):
            client.get(f"{PREFIX}/models", headers=bearer("hunter2"))
        before = noted_failures(client)
    with TestClient(create_app(settings)) as client:
        assert (before, noted_failures(client)) == (NOTED_LOGINS_PER_MINUTE, 30)


def test_only_administrators_of_the_installation_set_limits_and_members_see_them(serve, weights):
    client = serve()
    ada = make_user(client, "ada", "admin")
    limits = {"max_versions": 5, "max_bytes": 10 << 20}

    refused = client.patch(f"{PREFIX}/teams/vision/quota", json=limits, headers=ada)
    client.patch(f"{PREFIX}/teams/vision/quota", json=limits, headers=ADMINISTRATOR)
    client.put(f"{PREFIX}/models/vision/net/upload/model.pt", content=weights, headers=ada)

    assert refused.status_code == 403
    team = client.get(f"{PREFIX}/teams/vision", headers=ada).json()
    assert {name: team[name] for name in (*limits, "version_count", "stored_bytes")} == {
        **limits, "version_count": 1, "stored_bytes": len(weights),
    }  # fmt: skip
    audit = client.get(f"{PREFIX}/audit", params={"action": "team.quota"}, headers=ADMINISTRATOR)
    assert [entry["detail"] for entry in audit.json()["items"]] == [{"changes": limits}]


@pytest.fixture
def limited(serve, weights):
    """A service where the team `vision` has room for one more version of the size of `weights`, and its writer."""
    client = serve()
    writer = make_user(client, "ada")
    limits = {"max_versions": 1, "max_bytes": len(weights), "max_artifact_bytes": len(weights)}
    client.patch(f"{PREFIX}/teams/vision/quota", json=limits, headers=ADMINISTRATOR)
    return client, writer


@pytest.mark.parametrize("way", ["announced", "in chunks", "in a form", "announced in a form"])
def test_a_push_that_is_too_large_for_its_team_is_refused_however_it_comes(limited, weights, way):
    client, writer = limited
    much = weights + bytes(100)
    upload, versions = f"{PREFIX}/models/vision/net/upload/model.pt", f"{PREFIX}/models/vision/net/versions"
    announced = {"metadata": (None, json.dumps({"artifacts": {"model.pt": {"size_bytes": len(much)}}}))}

    answer = {
        "announced": lambda: client.put(upload, content=much, headers=writer),
        "in chunks": lambda: client.put(upload, content=iter([much]), headers=writer),
        "in a form": lambda: client.post(versions, files={"file": ("model.pt", much)}, headers=writer),
        "announced in a form": lambda: client.post(versions, files=announced, headers=writer),
    }[way]()

    assert (answer.status_code, answer.json()["code"]) == (413, "quota_exceeded")
    assert "administrator" in answer.json()["detail"]
    assert client.get(f"{PREFIX}/teams/vision", headers=writer).json()["version_count"] == 0


def test_the_push_that_filled_the_quota_can_be_repeated_by_its_key_and_no_other_is_taken(limited, weights):
    client, writer = limited
    upload, keyed = f"{PREFIX}/models/vision/net/upload/model.pt", {**writer, "Idempotency-Key": "one"}

    first = client.put(upload, content=weights, headers=keyed)
    again = client.put(upload, content=weights, headers=keyed)
    other = client.put(upload, content=weights, headers={**writer, "Idempotency-Key": "two"})

    assert (first.status_code, again.status_code, again.json()["number"]) == (201, 201, 1)
    assert other.json()["code"] == "quota_exceeded"
    client.patch(f"{PREFIX}/teams/vision/quota", json={"max_versions": 2, "max_bytes": None}, headers=ADMINISTRATOR)
    assert client.put(upload, content=weights, headers={**writer, "Idempotency-Key": "two"}).status_code == 201


@pytest.mark.parametrize("error", [OSError, ClientDisconnect, asyncio.CancelledError])
def test_open_streams_say_how_many_there_are_however_others_ended(error):
    streams = OpenStreams(0, 10, "parts")
    with streams.one("ada") as first, streams.one("bob") as second:
        with pytest.raises(error), streams.one("ada") as third:
            raise error
        with streams.one("bob") as next_one:
            pass
    with streams.one("ada") as last:
        pass

    assert (first, second, third, next_one, last) == (1, 2, 3, 3, 1)


def test_parts_share_what_memory_there_is_for_them_and_none_goes_without():
    shares = [share_of_memory(parts) for parts in range(1, 1025)]

    assert shares[:16] == [MOST_OF_A_PART] * 16
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == LEAST_OF_A_PART
    most_in_turn = PARTS_BYTES // LEAST_OF_A_PART
    assert all(share * parts <= PARTS_BYTES for parts, share in enumerate(shares[:most_in_turn], 1))
