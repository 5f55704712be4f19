"""A guarded service in a process of its own with two teams that must know nothing of each other, and raw requests."""

import http.client
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from embedded import API, make_weights
from support.service import running

from api.app import create_app
from api.settings import Settings
from registry.teams import Role, Scope

ROOT = "root-token-of-this-test-7c1f"
SERVE = [sys.executable, "-m", "api", "serve"]
WAIT_SECONDS = 30
WEIGHTS = make_weights(99)
DESCRIPTION = create_app(Settings(teams=True)).openapi()
OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in DESCRIPTION["paths"].items()
    for method, operation in methods.items()
}
"""Every operation that the API describes: its method, its path with `{names}`, and what it says of itself."""
BODIES = {
    "add_identity": {"issuer": "https://gitlab.example.com", "subject": "x", "scopes": ["read"]},
    "annotate_version": {"description": "x"},
    "check_version": {"architecture": {"tensors": []}},
    "create_token": {"name": "x", "scopes": ["read"]},
    "create_user": {},
    "find_compatible": {"architecture": {"tensors": []}},
    "move_alias": {"version": 1},
    "plan_upload": {
        "metadata": {"artifacts": {"model.pt": {"size_bytes": 5000, "blake3": "0" * 64}}},
        "tiles": {"model.pt": [[5000, "0" * 64]]},
    },
    "request_parts": {"path": "model.pt", "numbers": [1]},
    "plan_reads": {"artifacts": [{"path": "model.pt"}]},
    "purge_version": {"reason": "x"},
    "set_member": {"role": "reader"},
    "set_override": {"reason": "x"},
}
"""What operations need that have no members to leave out."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of a raw request."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the only header of this name."""
        found = [value for each, value in self.headers if each.lower() == name.lower()]
        assert len(found) < 2, found
        return found[0] if found else None

    def json(self) -> Any:
        """Return the body."""
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of a problem."""
        return self.json().get("code") if self.header("content-type") == "application/problem+json" else None


@dataclass(slots=True)
class Site:
    """A running service, where it keeps what, and the tokens of its people."""

    url: str
    pid: int
    folder: Path
    tokens: dict[str, str] = field(default_factory=dict[str, str])

    def ask(
        self, method: str, target: str, who: str | None = "root", body: Any = None, **headers: str | bytes
    ) -> Answer:
        """Ask as somebody; what is no bytes is sent as JSON. `_` in header names is `-`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if who is not None:
            given.setdefault("Authorization", f"Bearer {self.tokens.get(who, who)}")
        if body is not None and not isinstance(body, bytes):
            given.setdefault("Content-Type", "application/json")
            body = json.dumps(body).encode()
        return self.request(method, target, given, body)

    def request(
        self, method: str, target: str, headers: Mapping[str, str | bytes], body: bytes | None = None
    ) -> Answer:
        """Send a request whose target and headers are taken as they are."""
        lines = [f"{method} {target} HTTP/1.1".encode("latin-1"), b"Connection: close"]
        given = {"Host": urlsplit(self.url).netloc, **headers}
        if body is not None:
            given.setdefault("Content-Length", str(len(body)))
        for name, value in given.items():
            lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode("latin-1")))
        answer = self.send(b"\r\n".join(lines) + b"\r\n\r\n" + (body or b""), method)
        assert answer is not None, "the service hung up without an answer"
        return answer

    def send(self, data: bytes, method: str = "GET") -> Answer | None:
        """Send bytes and return the answer, None where the service hung up without one."""
        with self.connect() as raw:
            with suppress(OSError):  # refused before its end: the answer says why
                raw.sendall(data)
            return read_answer(raw, method)

    def connect(self) -> socket.socket:
        """Return a connection."""
        where = urlsplit(self.url)
        return socket.create_connection((where.hostname, where.port), WAIT_SECONDS)

    def is_well(self) -> bool:
        """Return whether the service answers as ever."""
        return self.ask("GET", f"{API}/whoami").status == 200 and self.ask("GET", "/readyz", None).status == 200

    @property
    def log(self) -> str:
        """All that the process wrote so far, to standard output and error."""
        return (self.folder / "service.log").read_text()


def read_answer(raw: socket.socket, method: str = "GET") -> Answer | None:
    """Return the next answer of a connection, None where it ends instead."""
    response = http.client.HTTPResponse(raw, method=method)
    try:
        response.begin()
        return Answer(response.status, response.getheaders(), response.read())
    except (http.client.HTTPException, ConnectionError):
        return None
    finally:
        response.close()


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Site]:
    """Run a service with these settings (`log_level="DEBUG"`)."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    variables |= {f"WEIGHBRIDGE_{name.upper()}": value for name, value in settings.items()}
    with running(folder, SERVE, variables) as service:
        yield Site(service.url, service.pid, folder, {"root": settings.get("token", "")})


def settle(site: Site) -> None:
    """Make the teams `vision` and `audio`: each with one user a role, a model, an alias, and bytes in quarantine."""
    for team in ("vision", "audio"):
        _must(site.ask("PUT", f"{API}/teams/{team}", body={}))
        _must(site.ask("PATCH", f"{API}/teams/{team}", body={"unsafe": "quarantine"}))
        for role in Role:
            user = f"{team}-{role}"
            _must(site.ask("PUT", f"{API}/users/{user}", body={}))
            _must(site.ask("PUT", f"{API}/teams/{team}/members/{user}", body={"role": role}))
            site.tokens[user] = make_token(site, user)
        upload = f"{API}/models/{team}/{team}-net/upload/model.pt"
        _must(site.ask("PUT", f"{upload}?alias=gold", body=weights_of(team), Idempotency_Key="the-key"))
        _must(site.ask("PUT", upload, body=harm_of(team)))
        digest = site.ask("GET", f"{API}/models/{team}/{team}-net/versions/2").json()["artifacts"][0]["sha256"]
        _must(site.ask("PUT", f"{API}/teams/{team}/overrides/{digest}", body={"reason": "x"}))
    _must(site.ask("PUT", f"{API}/users/outsider", body={}))
    site.tokens["outsider"] = make_token(site, "outsider")
    site.tokens["narrow"] = make_token(site, "vision-admin", targets=["vision/vision-net"])


def make_token(site: Site, user: str, **more: Any) -> str:
    """Return a new token of a user, good for everything that they may do unless `more` says less."""
    create = {"name": "test", "user": user, "scopes": list(Scope), **more}
    return _must(site.ask("POST", f"{API}/tokens", body=create)).json()["token"]


def weights_of(team: str) -> bytes:
    """Return the weights that a team's model has."""
    return make_weights(sum(team.encode()))


def harm_of(team: str) -> bytes:
    """Return what a team has in quarantine."""
    return b"\x80\x02cos\nsystem\nX" + len(team).to_bytes(4, "little") + team.encode() + b"\x85R."


def content_of(operation_id: str) -> tuple[dict[str, str], bytes | None]:
    """Return headers and body of a request that an operation takes."""
    condition = {"If-None-Match": "*"} if operation_id == "move_alias" else {"If-Match": "*"}
    _, _, operation = OPERATIONS[operation_id]
    kinds = operation.get("requestBody", {}).get("content", {})
    if "application/json" in kinds:
        body = json.dumps(BODIES.get(operation_id, {})).encode()
        return {**condition, "Content-Type": "application/json"}, body
    if "multipart/form-data" in kinds:
        return form(("model.pt", WEIGHTS))
    return condition, WEIGHTS if kinds else None


def form(*files: tuple[str, bytes], fields: Mapping[str, str] = {}) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a form; file names are sent as they are."""
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    data = "".join(parts).encode()
    for name, content in files:
        head = f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        data += head.encode("utf-8", "surrogateescape") + content + b"\r\n"
    return {"Content-Type": "multipart/form-data; boundary=edge"}, data + b"--edge--\r\n"


def fill(
    path: str, names: Mapping[str, str], encode: Callable[[str], str] = lambda value: quote(value, safe="")
) -> str:
    """Return a described path with its `{names}` filled in."""
    return re.sub(r"\{(\w+)\}", lambda found: encode(names[found[1]]), path)


def parameters_of(operation_id: str, place: str) -> list[str]:
    """Return the parameters of an operation in `path` or `query`."""
    _, path, operation = OPERATIONS[operation_id]
    named = [each["name"] for each in operation.get("parameters", []) if each["in"] == place]
    return re.findall(r"\{(\w+)\}", path) if place == "path" else named


def _must(answer: Answer) -> Answer:
    assert answer.status < 300, answer.body
    return answer
