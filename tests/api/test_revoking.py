"""Tokens that end while bytes move, at a real server: nothing more is published or served."""

import http.client
import io
import json
import os
import sys
import time
import urllib.request
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
import torch
from embedded import make_weights
from support.service import running

ROOT = "the administrator's token of this test"
WAIT_SECONDS = 20
LARGE_BYTES = 120 << 20
"""More than what fits into the buffers on the way."""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    variables = {**kept, "WEIGHBRIDGE_TEAMS": "true", "WEIGHBRIDGE_TOKEN": ROOT}
    with running(tmp_path_factory.mktemp("revoking"), [sys.executable, "-m", "api", "serve"], variables) as service:
        yield service


@pytest.fixture
def ask(service):
    def ask(method, path, body=None, token=ROOT):
        request = urllib.request.Request(  # noqa: S310 - our own service on loopback
            f"{service.url}/api/v1/{path}",
            data=body if isinstance(body, bytes) else json.dumps(body or {}).encode(),
            method=method,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)

    return ask


@pytest.fixture
def token(ask, request):
    """A token of a writer of the team `vision`, and how it begins."""
    user = request.node.name.replace("_", "-")[:90]
    ask("PUT", f"users/{user}")
    ask("PUT", "models/vision/first/upload/model.pt", make_weights())
    ask("PUT", f"teams/vision/members/{user}", {"role": "writer"})
    made = ask("POST", "tokens", {"name": "test", "user": user, "scopes": ["read", "push"]})
    return made["token"], made["prefix"]


@pytest.fixture
def connect(service):
    """Return a function that sends the head of a request over a connection of its own."""
    with ExitStack() as closing:

        def connect(method, path, token, **headers):
            connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=WAIT_SECONDS)
            closing.callback(connection.close)
            connection.putrequest(method, f"/api/v1/{path}")
            for name, value in {"Authorization": f"Bearer {token}", **headers}.items():
                connection.putheader(name, value)
            connection.endheaders()
            return connection

        yield connect


def test_a_push_whose_token_ends_on_the_way_is_not_published(connect, ask, token):
    secret, prefix = token
    data = make_weights(1)
    length = {"Content-Length": str(len(data))}
    connection = connect("PUT", "models/vision/net/upload/model.pt", secret, **length)
    connection.send(data[:1000])
    ask("DELETE", f"tokens/{prefix}")
    connection.send(data[1000:])

    with connection.getresponse() as answer:
        problem = json.load(answer)

    assert (answer.status, problem["code"]) == (401, "authentication_required")
    assert [each["name"] for each in ask("GET", "models?team=vision")["items"]] == ["first"]


def test_a_push_whose_writer_leaves_the_team_on_the_way_is_not_published(connect, ask, token):
    secret, _ = token
    data = make_weights(2)
    length = {"Content-Length": str(len(data))}
    connection = connect("PUT", "models/vision/net/upload/model.pt", secret, **length)
    connection.send(data[:1000])
    user = ask("GET", "whoami", token=secret)["name"]
    ask("PUT", f"teams/vision/members/{user}", {"role": "reader"})
    connection.send(data[1000:])

    with connection.getresponse() as answer:
        problem = json.load(answer)

    assert (answer.status, problem["code"]) == (403, "permission_denied")


def test_a_push_whose_maintainer_becomes_a_writer_on_the_way_moves_no_protected_alias(connect, ask, token):
    secret, _ = token
    user = ask("GET", "whoami", token=secret)["name"]
    wide = ask("POST", "tokens", {"name": "wide", "user": user, "scopes": ["read", "push", "promote"]})["token"]
    ask("PUT", f"teams/vision/members/{user}", {"role": "maintainer"})
    data = make_weights(3)
    length = {"Content-Length": str(len(data))}
    connection = connect("PUT", "models/vision/net/upload/model.pt?alias=prod", wide, **length)
    connection.send(data[:1000])
    time.sleep(1)  # admitted
    ask("PUT", f"teams/vision/members/{user}", {"role": "writer"})
    connection.send(data[1000:])

    with connection.getresponse() as answer:
        problem = json.load(answer)

    assert (answer.status, problem["code"]) == (403, "permission_denied")


def test_a_download_whose_token_ends_on_the_way_breaks_off_within_seconds(connect, ask, token):
    secret, prefix = token
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(LARGE_BYTES // 4)}, file)
    ask("PUT", "models/vision/large/upload/model.pt", file.getvalue())
    connection = connect("GET", "models/vision/large/versions/1/artifacts/model.pt", secret)
    with connection.getresponse() as answer:
        answer.read(1 << 20)
        ask("DELETE", f"tokens/{prefix}")
        time.sleep(6)  # longer than `storage.read.RECHECK_SECONDS`

        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()
