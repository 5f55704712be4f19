"""Where a browser goes on to after it signed in, and which addresses lead nowhere."""

import base64
import json

import pytest
from signing_in import ATTEMPT, SIGN_IN


@pytest.mark.parametrize("path", ["/docs", "/api/v1/models?team=vision&sort=name"])
def test_the_browser_goes_on_to_where_it_was(sign_in, path):
    assert sign_in(next_path=path).headers["location"] == path


ELSEWHERE = ["https://evil.example.com", "//evil.example.com", "/\\evil.example.com", "\\\\evil", "javascript:alert(1)"]


@pytest.mark.parametrize("path", [*ELSEWHERE, "/\t/evil.example.com", "evil", "/a\r\nSet-Cookie: x=y", " //evil"])
def test_the_browser_is_sent_to_no_other_site(browser, path):
    answer = browser.get(SIGN_IN, params={"next": path})

    assert answer.status_code == 422
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", ELSEWHERE)
def test_a_changed_cookie_sends_the_browser_to_no_other_site(browser, issuer, path):
    url = issuer.authorize(browser.get(SIGN_IN).headers["location"])
    attempt = json.loads(base64.urlsafe_b64decode(browser.cookies[ATTEMPT].strip('"')))
    browser.cookies.clear()
    changed = base64.urlsafe_b64encode(json.dumps(attempt | {"next": path}).encode()).decode()

    answer = browser.get(url, headers={"Cookie": f"{ATTEMPT}={changed}"})

    assert "location" not in answer.headers
