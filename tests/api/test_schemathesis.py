"""Requests that Schemathesis makes of the API's description, as each role: no 5xx, no answer that is not described."""

import json
import os
import sys
import urllib.request
from contextlib import ExitStack

import pytest
import schemathesis
from embedded import make_weights
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import booleans
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.service import running

from api.app import create_app
from api.settings import Settings
from registry.teams import Role, Scope
from storage.metadata.migrate import upgrade

ROOT = "the administrator's token of this test"
EXAMPLES = 12
"""Requests of each operation as each role; more are tried by `WEIGHBRIDGE_EXAMPLES`."""
SERVE = [sys.executable, "-m", "api", "serve"]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SCHEMA = schemathesis.openapi.from_dict(create_app(Settings(teams=True)).openapi())
OPERATIONS = {each.ok().definition.raw["operationId"]: each.ok() for each in SCHEMA.get_all_operations()}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def service(request, tmp_path_factory):
    """A service that needs tokens, with room for what thousands of requests push."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    variables |= {"WEIGHBRIDGE_TEAMS": "true", "WEIGHBRIDGE_TOKEN": ROOT, "WEIGHBRIDGE_REQUESTS_PER_MINUTE": "0"}
    with ExitStack() as stack:
        if request.param == "postgres":
            server = request.getfixturevalue("postgres")
            variables["WEIGHBRIDGE_DATABASE_URL"] = url = server.url(stack.enter_context(server.new_database()))
            upgrade(url)
        yield stack.enter_context(running(tmp_path_factory.mktemp("schemathesis"), SERVE, variables))


@pytest.fixture(scope="module")
def tokens(service):
    """A token of each role in the team `vision`, which has a model."""

    def ask(method, path, body):
        request = urllib.request.Request(  # noqa: S310 - our own service on loopback
            f"{service.url}/api/v1/{path}", data=body, method=method, headers={"Authorization": f"Bearer {ROOT}"}
        )
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def token(user):
        return ask("POST", "tokens", json.dumps({"name": "t", "user": user, "scopes": list(Scope)}).encode())["token"]

    ask("PUT", "models/vision/net/upload/model.pt?alias=prod", make_weights())
    ask("PUT", "users/root", b'{"administrator": true}')
    for role in Role:
        ask("PUT", f"users/{role}", b"{}")
        ask("PUT", f"teams/vision/members/{role}", json.dumps({"role": role}).encode())
    ask("PUT", "users/outsider", b"{}")
    return {"nobody": ""} | {user: token(user) for user in ("outsider", *Role, "root")}


def known(names):
    """Return what is there for those of the names that stand in a path."""
    there = {"team": "vision", "model": "net", "version": "prod", "number": "1", "alias": "prod", "path": "model.pt"}
    return {name: value for name, value in (there | {"user": "reader", "other": "1"}).items() if name in names}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_every_answer_is_described(service, tokens, operation_id):
    @given(case=OPERATIONS[operation_id].as_strategy(), is_known=booleans())
    @settings(
        max_examples=int(os.environ.get("WEIGHBRIDGE_EXAMPLES", EXAMPLES)),
        phases=[Phase.generate],
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def as_everybody(case, is_known):
        if is_known:
            case.path_parameters = {**case.path_parameters, **known(case.path_parameters)}
        for token in tokens.values():
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = case.call(base_url=service.url, headers=headers, timeout=30)
            case.validate_response(answer, checks=CHECKS)

    as_everybody()
