"""Single sign-on with a provider that others wrote, a real service, the installed command, and a real browser."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from identity_issuer import running_issuer
from playwright.sync_api import sync_playwright
from support.service import Service, free_port, running

SCRIPT = str(Path(sys.executable).with_name("weighbridge"))
ROOT = "the-administrator's-token-of-this-test"
PEOPLE = {
    "OIDC_CLIENT_ID": "models",
    "OIDC_CLIENT_SECRET": "secret",
    "OIDC_GROUPS": '{"ml": "vision:writer"}',
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@contextmanager
def provider(folder: Path) -> Iterator[str]:
    """Run oidc-provider-mock with one user."""
    port = free_port()
    user = json.dumps({"sub": "42", "preferred_username": "grace", "groups": ["ml"]})
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-p", str(port), "--user-claims", user]
    with (folder / "provider.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx2.get(f"http://127.0.0.1:{port}/.well-known/openid-configuration")
                break
            except httpx2.TransportError:
                assert time.monotonic() < deadline, (folder / "provider.log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(15)


@contextmanager
def service(folder: Path, **settings: str) -> Iterator[Service]:
    """Run a service; its public address is where it listens."""
    port = free_port()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    variables |= {f"WEIGHBRIDGE_{name}": value for name, value in settings.items()}
    variables |= {"WEIGHBRIDGE_TEAMS": "true", "WEIGHBRIDGE_TOKEN": ROOT}
    with running(folder, variables=variables | {"WEIGHBRIDGE_PUBLIC_URL": f"http://127.0.0.1:{port}"}, port=port) as it:
        yield it


def command(home: Path, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command as somebody with a home of their own."""
    home.mkdir(exist_ok=True)
    given = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    given |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home), **variables}
    return subprocess.run(
        [SCRIPT, *arguments], input=stdin, env=given, cwd=home, capture_output=True, text=True, check=False, timeout=60
    )


def test_somebody_signs_in_by_real_redirects_and_takes_a_token_to_the_command_line(tmp_path: Path) -> None:
    with (
        provider(tmp_path) as issuer,
        service(tmp_path, OIDC_ISSUER=issuer, **PEOPLE) as models,
        httpx2.Client(follow_redirects=True) as browser,
    ):
        form = browser.get(f"{models.url}/api/v1/sign-in")
        done = browser.post(form.url, data={"sub": "42"})
        assert (done.status_code, done.url.path) == (200, "/api/v1/sign-in/done")
        assert "Signed in as grace" in done.text

        page = browser.post(f"{models.url}/api/v1/sign-in/token", headers={"Origin": models.url})
        token = re.search(r"wb_[a-z2-7]{16}_[0-9a-f]{64}", page.text)
        assert token is not None
        assert command(tmp_path / "grace", "login", models.url, stdin=token[0]).returncode == 0
        who = json.loads(command(tmp_path / "grace", "whoami", "--json").stdout)
        assert (who["name"], who["roles"]) == ("grace", {"vision": "writer"})


def test_login_on_a_terminal_names_the_page_that_signs_in(tmp_path: Path) -> None:
    import pty

    with provider(tmp_path) as issuer, service(tmp_path, OIDC_ISSUER=issuer, OIDC_CLIENT_ID="models") as models:
        variables = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [SCRIPT, "login", models.url], stdin=theirs, stdout=theirs, stderr=theirs, env=variables, close_fds=True
        )
        os.close(theirs)
        told = b""
        while b"Token" not in told:
            told += os.read(ours, 4096)
        os.write(ours, ROOT.encode() + b"\n")
        assert process.wait(30) == 0
        os.close(ours)
    assert f"{models.url}/api/v1/sign-in" in told.decode()


def test_a_job_is_bound_and_let_in_and_distrusted_by_commands(tmp_path: Path) -> None:
    with running_issuer() as issuer, service(tmp_path, JOB_ISSUERS=issuer.url) as models:

        def ask_root(*arguments: str) -> subprocess.CompletedProcess[str]:
            return command(tmp_path / "root", *arguments, WEIGHBRIDGE_URL=models.url, WEIGHBRIDGE_TOKEN=ROOT)

        def root(*arguments: str) -> str:
            done = ask_root(*arguments)
            assert done.returncode == 0, done.stderr
            return done.stdout

        def job(*arguments: str) -> subprocess.CompletedProcess[str]:
            place = {"WEIGHBRIDGE_URL": models.url, "WEIGHBRIDGE_TOKEN_FILE": str(tmp_path / "jwt")}
            return command(tmp_path / "job", *arguments, **place)

        whom = ("--issuer", issuer.url, "--subject", "job")
        root("user", "add", "nightly")
        root("user", "trust", "nightly", *whom, "--scope", "read", "--scope", "push", "--target", "vision")
        assert "read, push in vision" in root("user", "trusted", "nightly")
        (tmp_path / "jwt").write_text(issuer.sign())

        assert json.loads(job("whoami", "--json").stdout)["targets"] == ["vision"]

        root("user", "distrust", "nightly", *whom)
        refused = job("whoami")
        assert refused.returncode == 3
        assert "WEIGHBRIDGE_TOKEN_FILE" in refused.stderr
        assert ask_root("user", "distrust", "nightly", *whom).returncode == 4


@pytest.mark.slow
def test_in_a_real_browser_the_pages_work_and_ask_nobody_else(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    asked: list[str] = []
    complaints: list[str] = []
    with (
        provider(tmp_path) as issuer,
        service(tmp_path, OIDC_ISSUER=issuer, **PEOPLE) as models,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 900, "height": 640})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"{models.url}/api/v1/sign-in")
        page.locator("button[value='42']").click()
        page.get_by_text("Signed in as grace").wait_for()
        complaints.clear()
        asked.clear()  # the provider's own page asks whom it likes
        page.screenshot(path=tmp_path / "done.png")
        page.get_by_role("button", name="Make a token").click()
        secret = page.locator("code.secret").inner_text()
        page.screenshot(path=tmp_path / "token.png")
        assert (
            json.loads(command(tmp_path / "grace", "whoami", "--json", "--url", models.url, "--token", secret).stdout)[
                "name"
            ]
            == "grace"
        )
        page.get_by_role("button", name="Sign out").click()
        page.get_by_text("Signed out").wait_for()
        page.goto(f"{models.url}/api/v1/sign-in/callback?state=x&code=y")
        page.screenshot(path=tmp_path / "failed.png")
        assert all(url.startswith(f"{models.url}/") for url in asked), asked
        page.get_by_role("link", name="Begin again").click()
        assert page.url.startswith(issuer)
        browser.close()
    assert [each for each in complaints if "Content Security Policy" in each] == []
