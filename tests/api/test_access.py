"""Who is let in: anybody on loopback, elsewhere the holder of the token, and no web page."""

import pytest
from starlette.testclient import TestClient

from api.app import PREFIX, create_app
from api.settings import Settings, check_exposure, read_settings
from registry.errors import ConfigurationError

TOKEN = "a-token-of-sixteen"
GUARDED = [
    ("GET", "/api/v1"),
    ("GET", "/api/v1/models"),
    ("PUT", "/api/v1/models/vision/net"),
    ("PUT", "/api/v1/models/vision/net/upload/model.pt"),
    ("POST", "/api/v1/models/vision/net/versions"),
    ("GET", "/api/v1/models/vision/net/versions/1/artifacts/model.pt"),
    ("HEAD", "/api/v1/models/vision/net/versions/1/artifacts/model.pt"),
    ("DELETE", "/api/v1/models/vision/net/versions/1"),
    ("PUT", "/api/v1/models/vision/net/aliases/prod"),
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    app = create_app(Settings(data=tmp_path_factory.mktemp("guarded"), host="0.0.0.0", token=TOKEN))  # noqa: S104 - says what is tested
    with TestClient(app, base_url="http://models.example.com") as client:
        yield client


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize("given", [None, "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_nobody_gets_in_without_the_token(guarded, method, path, given):
    answer = guarded.request(method, path, headers={"Authorization": given} if given is not None else {})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert method == "HEAD" or answer.json()["code"] == "authentication_required"


def test_the_holder_of_the_token_gets_in_under_any_host_name(guarded):
    answer = guarded.get("/api/v1", headers={"Authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == 200
    assert answer.json()["default_team"] is None


def test_health_is_nobodys_secret(guarded):
    assert [guarded.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]


def test_every_route_of_the_api_asks_who_calls(guarded):
    described = guarded.get("/openapi.json").json()["paths"]
    routes = [(method, path) for path, each in described.items() if path.startswith(PREFIX) for method in each]

    assert len(routes) > 20
    for method, path in routes:
        assert guarded.request(method, path.replace("{number}", "1")).status_code == 401


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
def test_without_a_token_the_service_answers_as_this_machine(client, host):
    assert client.get("/api/v1", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"]
)
def test_without_a_token_a_foreign_name_for_loopback_is_refused(client, host):
    answer = client.get("/api/v1", headers={"Host": host})

    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


def test_a_host_name_can_be_allowed(tmp_path):
    app = create_app(Settings(data=tmp_path, allowed_hosts="gpu-box, other"))
    with TestClient(app, base_url="http://gpu-box:8000") as client:
        assert client.get("/api/v1").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_a_web_page_of_another_site_may_not_change_anything(client, model, headers):
    answer = client.put(model, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert client.get(model).status_code == 404


def test_a_page_of_the_service_itself_may_change_things(client, model):
    own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}

    assert client.put(model, headers=own).status_code == 201


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "models.example.com"])  # noqa: S104 - refused here
def test_listening_elsewhere_without_a_token_is_refused(host):
    with pytest.raises(ConfigurationError, match="WEIGHBRIDGE_TOKEN"):
        check_exposure(Settings(host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_listening_on_loopback_needs_no_token(host):
    check_exposure(Settings(host=host))


def test_a_token_that_can_be_guessed_is_refused():
    with pytest.raises(ConfigurationError, match="16 characters"):
        check_exposure(Settings(token="secret"))


def test_several_workers_on_sqlite_are_refused():
    with pytest.raises(ConfigurationError, match="SQLite"):
        check_exposure(Settings(workers=2))


def test_a_setting_that_is_wrong_is_named(monkeypatch):
    monkeypatch.setenv("WEIGHBRIDGE_PORT", "eighty")

    with pytest.raises(ConfigurationError, match="WEIGHBRIDGE_PORT"):
        read_settings()


def test_every_setting_says_what_it_is():
    assert all(field.description for field in Settings.model_fields.values())


def test_secrets_do_not_show_in_the_settings():
    settings = Settings(token=TOKEN, blobs_secret_key="hidden")

    assert TOKEN not in repr(settings)
    assert "hidden" not in repr(settings)
