"""Whatever is done with a secret, rightly or by mistake: nothing that the service writes or answers holds it."""

import base64
import os
import re
import secrets
import sqlite3
import subprocess
import traceback
from urllib.parse import quote

import pytest
from attacks import OPERATIONS, ROOT, SERVE, content_of, fill, make_token, parameters_of, serving
from embedded import API, make_weights

from api.hiding import hide_secrets
from api.service import Service
from api.settings import Settings
from registry.errors import WeighbridgeError

BUCKET_KEY = "bucket-secret-5f0c9a"
PASSWORD = "database-secret-77ab"
SECRET_HALF = re.compile(r"wb_[a-z2-7]{16}_([0-9a-f]{64})")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A service at its most talkative that did a day's work, and all that its people told it of secrets."""
    folder = tmp_path_factory.mktemp("told")
    settings = {"teams": "true", "log_level": "DEBUG", "requests_per_minute": "0", "blobs_secret_key": BUCKET_KEY}
    with serving(folder, token=ROOT, **settings) as site:
        site.ask("PUT", f"{API}/users/ada", body={"administrator": True})
        site.tokens["ada"] = make_token(site, "ada")
        revoked = make_token(site, "ada")
        site.ask("DELETE", f"{API}/tokens/{revoked[:19]}")
        never = f"wb_{'a' * 16}_{secrets.token_hex(32)}"
        for token in (site.tokens["ada"], revoked, never, ROOT):
            _use_rightly_and_wrongly(site, token)
        yield site, [site.tokens["ada"], revoked, never]


def _use_rightly_and_wrongly(site, token):
    for credentials in (
        f"Bearer {token}",
        f"bearer {token} ",
        f"Basic {token}",
        token,
        f"Bearer {token},{token}",
        f"Token token={token}",
    ):
        site.ask("GET", f"{API}/models", None, Authorization=credentials)
        site.ask("POST", f"{API}/tokens", None, {"name": "x", "scopes": ["read"]}, Authorization=credentials)
    for name in ("access_token", "token", token, "cursor", "sort", "search", "team", "user", "tag"):
        site.ask("GET", f"{API}/models?{name}={token}&sort={token}")
        site.ask("GET", f"{API}/tokens?{name}={token}")
    site.ask("PUT", f"{API}/models/vision/net/upload/model.pt?{token}=1", body=make_weights())
    site.ask("PUT", f"{API}/models/vision/net/upload/model.pt?base={token}&alias={token}", body=make_weights())
    for operation_id, (method, path, _) in OPERATIONS.items():
        headers, body = content_of(operation_id)
        for name in parameters_of(operation_id, "path"):
            names = dict.fromkeys(parameters_of(operation_id, "path"), "vision") | {name: token}
            site.ask(
                method,
                fill(path, names),
                "root",
                body,
                **{key.replace("-", "_"): value for key, value in headers.items()},
            )
    site.ask("GET", f"/{token}", None)
    site.ask("GET", f"{API}/{quote(token)}/{quote(quote(token))}", None)
    site.ask(token.upper(), f"{API}/models", None)
    site.ask("PATCH", f"{API}/users/ada", body={"administrator": token, token: token})
    site.ask("POST", f"{API}/tokens", body={"name": "x", "scopes": [token], "targets": [token, f"vision/{token}"]})
    site.ask("GET", f"{API}/whoami", None, Cookie=f"token={token}", X_Request_Id=token, X_Forwarded_For=token)


def held(text, tokens):
    """Return which secrets a text holds, of tokens their secret half."""
    halves = [SECRET_HALF.search(token)[1] for token in tokens]
    return [secret for secret in (*halves, ROOT, BUCKET_KEY) if secret in text]


def test_nothing_that_the_process_writes_holds_a_secret(told):
    site, tokens = told

    assert len(site.log.splitlines()) > 100
    assert held(site.log, tokens) == []


def test_no_row_and_no_file_in_the_data_folder_holds_a_secret(told):
    site, tokens = told
    with sqlite3.connect(f"file:{site.folder / 'data' / 'catalog.sqlite'}?mode=ro", uri=True) as connection:
        rows = "\n".join(connection.iterdump())
    files = [path.read_bytes().decode("latin-1") for path in (site.folder / "data").rglob("*") if path.is_file()]

    assert "login.fail" in rows
    assert held(rows, tokens) == []
    assert [held(content, tokens) for content in files if held(content, tokens)] == []


@pytest.mark.parametrize(
    "path", ["/metrics", "/readyz", "/openapi.json", f"{API}/audit?limit=1000", f"{API}/audit/export"]
)
def test_no_page_of_the_service_holds_a_secret(told, path):
    site, tokens = told
    answer = site.ask("GET", path)

    assert answer.status == 200
    assert held(answer.body.decode(), tokens) == []


@pytest.mark.parametrize("operation_id", [name for name in OPERATIONS if parameters_of(name, "path")])
def test_no_error_repeats_a_token_that_stood_in_its_path(site, operation_id):
    method, path, _ = OPERATIONS[operation_id]
    headers, body = content_of(operation_id)
    token = f"wb_{'b' * 16}_{secrets.token_hex(32)}"
    for name in parameters_of(operation_id, "path"):
        names = {"team": "vision", "model": "vision-net", "version": "1", "number": "1"}
        names = dict.fromkeys(parameters_of(operation_id, "path"), "x") | names | {name: token}
        answer = site.request(method, fill(path, names), {**headers, "Authorization": f"Bearer {ROOT}"}, body)

        assert token not in answer.body.decode() or answer.status < 300, answer.body


def test_queries_and_credentials_are_in_no_line_of_the_log(site):
    canary = secrets.token_hex(8)
    site.ask("GET", f"{API}/models?search={canary}", Cookie=f"session={canary}", Referer=f"http://x/{canary}")
    site.ask("GET", f"{API}/models?search={canary}", f"not-a-token-{canary}")

    assert canary not in site.log


@pytest.mark.parametrize("header", ['{"alg":"RS256"}', '{ "alg": "RS256" }', '{\n "alg": "ES256"}', ' {"alg":"none"}'])
def test_a_jwt_is_hidden_however_its_header_is_written(header):
    words = [base64.urlsafe_b64encode(each.encode()).decode().rstrip("=") for each in (header, '{"sub":"x"}', "abc")]

    assert hide_secrets(f"before {'.'.join(words)} behind") == "before … behind"


def test_names_with_dots_are_no_jwts():
    text = "registry.formats.reader at https://models.example.com, 127.0.0.1 or layer1.0.conv1.weight, eyeglass.of.her"
    assert hide_secrets(text) == text


def test_a_path_that_nearly_is_a_jwt_all_the_way_holds_nobody_up(site):
    for path in ("eyJ" * 20_000, "eyJhbGci." * 7_000, f"{'a' * 30_000}.{'b' * 30_000}"):
        assert site.ask("GET", f"/{path}", None).status in {401, 404, 422}
        assert site.is_well()


def test_nobody_learns_the_shared_token_by_guessing_in_a_url(tmp_path):
    shared = "correct-horse-battery-staple"
    with serving(tmp_path, token=shared) as site:
        guesses = [site.ask("GET", f"/healthz?{guess}", None).status for guess in (shared, "wrong-horse-battery")]
        own = site.ask("PUT", f"{API}/models/vision/{shared}", Authorization=f"Bearer {shared}")

    assert len(set(guesses)) == 1
    assert (own.status, own.code) == (422, "invalid_request")


def test_a_token_is_told_once_and_kept_by_no_cache(site):
    made = site.ask("POST", f"{API}/tokens", "vision-writer", {"name": "x", "scopes": ["read"]})

    assert made.header("cache-control") == "no-store"
    assert made.json()["token"] not in site.ask("GET", f"{API}/tokens", "vision-writer").body.decode()


def test_a_token_is_no_name_of_anything(site):
    token = f"wb_{'c' * 16}_{secrets.token_hex(32)}"

    as_path = site.ask("PUT", f"{API}/models/vision/{token}")
    as_target = site.ask("POST", f"{API}/tokens", body={"name": "x", "scopes": ["read"], "targets": [token]})

    assert (as_path.status, as_path.code) == (422, "invalid_request")
    assert (as_target.status, as_target.code) == (422, "invalid_name")
    assert all("Revoke" in answer.json()["detail"] for answer in (as_path, as_target))


POSTGRES = "postgresql+psycopg://"


@pytest.mark.parametrize(
    "settings",
    [
        {"database_url": f"{POSTGRES}user:{PASSWORD}@127.0.0.1:port/weighbridge"},
        {"database_url": f"{POSTGRES}user:{PASSWORD}@[::1/weighbridge"},
        {"database_url": f"{POSTGRES}user:x:{PASSWORD}/x@127.0.0.1:9/weighbridge"},
        {"database_url": f"{POSTGRES}127.0.0.1:9/weighbridge?user=x&password={PASSWORD}&unknown=1"},
        {"database_url": f"mysql://user:{PASSWORD}@127.0.0.1/weighbridge"},
        {"database_url": PASSWORD},
        {"blobs_url": "minio://127.0.0.1:9/nobody?secure=false"},
        {"blobs_url": f"s3://key:{BUCKET_KEY}@nobody"},
        {"blobs_url": f"s3://nobody?secret_key={BUCKET_KEY}"},
        {"blobs_url": f"s3://nobody?endpoint=http://x:{BUCKET_KEY}@127.0.0.1"},
        {"blobs_url": f"gopher://nobody/{BUCKET_KEY}"},
    ],
)
def test_what_is_wrong_in_a_url_is_told_by_name_and_without_its_secret(tmp_path, settings):
    with pytest.raises(WeighbridgeError) as failed:
        Service.open(Settings(data=tmp_path, blobs_access_key="key", blobs_secret_key=BUCKET_KEY, **settings))

    told = "".join(traceback.format_exception(failed.value))
    assert PASSWORD not in told
    assert BUCKET_KEY not in told


@pytest.mark.parametrize(
    "settings",
    [
        {"DATABASE_URL": f"{POSTGRES}user:{PASSWORD}@127.0.0.1:9/weighbridge"},
        {"BLOBS_URL": "s3://nobody?endpoint=http://127.0.0.1:9&region=x"},
        {"TOKEN": "hunter2", "HOST": "0.0.0.0"},  # noqa: S104 - refused
    ],
    ids=["database", "bucket", "token"],
)
def test_a_service_that_cannot_start_says_why_without_any_secret(tmp_path, settings):
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    given = {"LOG_LEVEL": "DEBUG", "DATA": str(tmp_path), "PORT": "0", "BLOBS_ACCESS_KEY": "key"}
    given |= {"BLOBS_SECRET_KEY": BUCKET_KEY, **settings}
    variables |= {f"WEIGHBRIDGE_{name}": value for name, value in given.items()}

    done = subprocess.run(SERVE, env=variables, capture_output=True, text=True, timeout=60, check=False)

    told = done.stdout + done.stderr
    assert (done.returncode, "Error: " in told, "Traceback" in told) == (1, True, False), told
    assert [secret for secret in (PASSWORD, BUCKET_KEY, "hunter2") if secret in told] == []
