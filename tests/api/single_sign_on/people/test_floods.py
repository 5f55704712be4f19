"""Sign-ins that come too often."""

import base64
import json

from signing_in import ATTEMPT, SIGN_IN


def test_a_flood_of_callbacks_does_not_reach_the_provider(browser, issuer):
    browser.get(SIGN_IN)
    attempt = browser.cookies[ATTEMPT]
    state = json.loads(base64.urlsafe_b64decode(attempt.strip('"')))["state"]
    url = f"{SIGN_IN}/callback?code=x&state={state}"

    answers = [browser.get(url).status_code for _ in range(70)]

    assert answers.count(429) > 5
    assert issuer.asked.count("/token") < 66


def test_a_flood_of_callbacks_is_stopped_while_the_provider_is_away(browser, issuer):
    issuer.answer["/token"] = (500, b"")
    kept = {"state": "made", "nonce": "up", "verifier": "by anybody", "next": ""}
    browser.cookies.set(ATTEMPT, base64.urlsafe_b64encode(json.dumps(kept).encode()).decode())

    answers = [browser.get(f"{SIGN_IN}/callback?code=x&state=made").status_code for _ in range(80)]

    assert (answers[0], answers[-1]) == (503, 429)
    assert issuer.asked.count("/token") < 70


def test_callbacks_count_as_requests_of_their_address(serve):
    browser = serve(requests_per_minute=5)

    answers = [browser.get(f"{SIGN_IN}/callback") for _ in range(8)]

    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
    assert {answer.headers["www-authenticate"] for answer in answers[:5]} == {"Bearer"}
    assert all(0 < int(answer.headers["retry-after"]) <= 60 for answer in answers[5:])


def test_signing_in_goes_on_whatever_a_revoked_token_does_at_that_address(ask, sign_in):
    polling = [ask("GET", "whoami", token="wb_aaaaaaaaaaaaaaaa_" + "5" * 64).status_code for _ in range(80)]

    assert (polling[-1], sign_in().status_code) == (429, 303)
