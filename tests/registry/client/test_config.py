import stat

import pytest

from registry.client.config import DEFAULT_URL, ClientSettings, SavedLogins, check_url, config_file
from registry.errors import ConfigurationError, InvalidNameError


def test_without_any_word_the_service_is_on_this_machine(tmp_path):
    settings = ClientSettings.resolve()
    assert (settings.url, settings.token, settings.team, settings.offline) == (DEFAULT_URL, None, None, False)
    assert settings.cache_folder == tmp_path / "user-cache"


def test_arguments_win_over_the_environment_and_that_over_the_last_login(monkeypatch):
    SavedLogins.load().with_login("https://login.example", "saved").save()
    assert (ClientSettings.resolve().url, ClientSettings.resolve().token) == ("https://login.example", "saved")

    monkeypatch.setenv("WEIGHBRIDGE_URL", "https://env.example/")
    monkeypatch.setenv("WEIGHBRIDGE_TOKEN", "from-env")
    monkeypatch.setenv("WEIGHBRIDGE_TEAM", "vision")
    settings = ClientSettings.resolve()
    assert (settings.url, settings.token, settings.team) == ("https://env.example", "from-env", "vision")

    settings = ClientSettings.resolve("https://arg.example", "given", "audio")
    assert (settings.url, settings.token, settings.team) == ("https://arg.example", "given", "audio")


def test_a_saved_token_goes_to_its_own_service_only():
    SavedLogins.load().with_login("https://login.example", "saved").save()
    assert ClientSettings.resolve("https://other.example").token is None


def test_a_token_beside_a_url_in_the_environment_goes_to_that_service_only(monkeypatch):
    monkeypatch.setenv("WEIGHBRIDGE_URL", "https://env.example/")
    monkeypatch.setenv("WEIGHBRIDGE_TOKEN", "from-env")
    SavedLogins.load().with_login("https://login.example", "saved").save()
    assert ClientSettings.resolve("https://other.example").token is None
    assert ClientSettings.resolve("https://login.example").token == "saved"
    assert ClientSettings.resolve("https://ENV.example").token == "from-env"
    monkeypatch.delenv("WEIGHBRIDGE_URL")
    assert ClientSettings.resolve("https://other.example").token == "from-env"


def test_logging_out_makes_the_service_before_the_default():
    logins = SavedLogins(None, {}).with_login("https://one.example", "1").with_login("https://two.example", "2")
    assert logins.without_login("https://two.example") == SavedLogins(
        "https://one.example", {"https://one.example": "1"}
    )
    assert logins.without_login("https://one.example").default_url == "https://two.example"
    assert logins.without_login("https://one.example").without_login("https://two.example") == SavedLogins(None, {})


def test_the_file_with_tokens_is_readable_by_its_owner_only():
    path = SavedLogins.load().with_login("https://login.example", "saved").save()
    assert path == config_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_logging_in_without_a_token_forgets_the_one_before():
    SavedLogins.load().with_login("https://login.example", "saved").save()
    SavedLogins.load().with_login("https://login.example", None).save()
    assert SavedLogins.load() == SavedLogins("https://login.example", {})


def test_a_damaged_login_file_is_a_named_error_that_says_what_to_do():
    config_file().parent.mkdir(parents=True)
    config_file().write_text("[]")
    with pytest.raises(ConfigurationError, match="weighbridge login"):
        ClientSettings.resolve()


@pytest.mark.parametrize(
    "text", ["localhost:8000", "ftp://host", "http://", "https://user:secret@host", "http://h?x=1"]
)
def test_what_is_no_url_of_a_service_is_refused_without_repeating_a_password(text):
    with pytest.raises(ConfigurationError) as caught:
        check_url(text)
    assert "secret" not in caught.value.detail


def test_an_impossible_team_is_refused_when_the_client_is_made():
    with pytest.raises(InvalidNameError):
        ClientSettings.resolve(team="a/b")


@pytest.mark.parametrize(("text", "offline"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_offline_is_a_switch_in_the_environment(monkeypatch, text, offline):
    monkeypatch.setenv("WEIGHBRIDGE_OFFLINE", text)
    assert ClientSettings.resolve().offline is offline
