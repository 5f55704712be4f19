"""A token in a file: read anew when it was replaced, and sent to one service only."""

import os

import pytest

from registry.client.config import ClientSettings, SavedLogins
from registry.client.token_file import TokenFile
from registry.client.transport import Transport
from registry.errors import AuthenticationRequiredError, ConfigurationError
from registry.teams import WhoAmI


def replace(path, text):
    """Write a file as Kubernetes does: another one, moved over it."""
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


def test_a_file_that_was_replaced_is_read_again_and_else_not(tmp_path):
    path = tmp_path / "token"
    replace(path, "first\n")
    file = TokenFile(path)
    assert (file.read(), file.read()) == ("first", "first")

    replace(path, "other\n")
    assert file.read() == "other"


def test_a_link_that_leads_elsewhere_by_now_is_followed(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    (tmp_path / "token").symlink_to(tmp_path / "one")
    file = TokenFile(tmp_path / "token")
    assert file.read() == "one"

    (tmp_path / "token").unlink()
    (tmp_path / "token").symlink_to(tmp_path / "two")
    assert file.read() == "two"


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"a\nb", "tök".encode(), b"x" * (65 << 10)])
def test_a_file_that_holds_no_token_is_named(tmp_path, content):
    (tmp_path / "token").write_bytes(content)

    with pytest.raises(ConfigurationError, match="WEIGHBRIDGE_TOKEN_FILE"):
        TokenFile(tmp_path / "token").read()
    with pytest.raises(ConfigurationError, match="No such file"):
        TokenFile(tmp_path / "nothing").read()


def test_what_a_file_said_last_counts_while_somebody_writes_it(tmp_path):
    path = tmp_path / "token"
    path.write_text("first")
    file = TokenFile(path)
    assert file.read() == "first"

    path.write_text("")
    assert file.read() == "first"
    path.unlink()
    assert file.read() == "first"
    path.mkdir()
    assert file.read() == "first"
    path.rmdir()
    path.write_text("two words")
    with pytest.raises(ConfigurationError, match="more than one word"):
        file.read()
    path.write_text("next")
    assert file.read() == "next"


def test_the_file_goes_where_the_token_of_the_environment_would_and_after_it(monkeypatch, tmp_path):
    monkeypatch.setenv("WEIGHBRIDGE_URL", "https://env.example")
    monkeypatch.setenv("WEIGHBRIDGE_TOKEN_FILE", str(tmp_path / "token"))
    SavedLogins.load().with_login("https://env.example", "saved").save()
    settings = ClientSettings.resolve()
    assert (settings.token, settings.token_file.path) == (None, tmp_path / "token")

    elsewhere = ClientSettings.resolve("https://other.example")
    assert (elsewhere.token, elsewhere.token_file) == (None, None)
    given = ClientSettings.resolve(token="given")
    assert (given.token, given.token_file) == ("given", None)
    monkeypatch.setenv("WEIGHBRIDGE_TOKEN", "from-env")
    both = ClientSettings.resolve()
    assert (both.token, both.token_file) == ("from-env", None)


def test_each_request_sends_what_the_file_says_by_then(tmp_path, guarded_server):
    path = tmp_path / "token"
    replace(path, "nobody-knows-this")
    transport = Transport(guarded_server.url, TokenFile(path))
    with pytest.raises(AuthenticationRequiredError):
        transport.get(WhoAmI, "whoami")

    replace(path, guarded_server.token)
    assert transport.get(WhoAmI, "whoami").name == "token"
    transport.close()


@pytest.fixture
def guarded_server(tmp_path):
    """A real server that asks for a token."""
    import sys
    from types import SimpleNamespace

    from support.service import running

    token = "the administrator's-token-of-this-test".replace(" ", "-")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    with running(
        tmp_path, [sys.executable, "-m", "api", "serve"], {**variables, "WEIGHBRIDGE_TOKEN": token}
    ) as service:
        yield SimpleNamespace(url=service.url, token=token)
