"""An identity provider of the tests' own, by HTTP and with real keys, that can be told to lie."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

AUDIENCE = "weighbridge"


class IdentityIssuer:
    """A provider on a free port of loopback.

    Attributes:
        keys: that it publishes and signs by, the newest last.
        asked: the path of each request that it got.
        description: members that its description says otherwise than it should.
        claims: of ID tokens, beside those that the protocol needs; None leaves one out.
        answer: instead of what it should answer, by path.
        delay_seconds: before each answer.
        new_code: returns a code for a sign-in.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.keys: list[Any] = [_first_key()]
        self.asked: list[str] = []
        self.description: dict[str, Any] = {}
        self.claims: dict[str, Any] = {"sub": "1", "preferred_username": "ada"}
        self.userinfo: dict[str, Any] = {"sub": "1"}
        self.answer: dict[str, tuple[int, bytes]] = {}
        self.delay_seconds = 0.0
        self.new_code: Callable[[], str] = lambda: f"code-{len(self._codes)}"
        self._codes: dict[str, dict[str, str]] = {}

    def sign(self, *, key: Any = None, alg: str = "RS256", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a JWT that this issuer signed for a job; claims that are None are left out."""
        key = key or self.keys[-1]
        now = int(time.time())
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "job", "iat": now, "exp": now + 300} | claims
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode({"alg": alg, "kid": key.kid, **(header or {})}, said, key, algorithms=[alg])

    def authorize(self, url: str) -> str:
        """Do what a person does at the provider: agree, and go where it sends them; return the address."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = self.new_code()
        self._codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.url})}"

    def respond(self, path: str, form: dict[str, str]) -> tuple[int, bytes]:
        """Return the answer to a request."""
        self.asked.append(path)
        time.sleep(self.delay_seconds)
        if path in self.answer:
            return self.answer[path]
        if path == "/.well-known/openid-configuration":
            return 200, json.dumps(self._describe()).encode()
        if path == "/jwks":
            return 200, json.dumps(KeySet(self.keys).as_dict(private=False)).encode()
        if path == "/userinfo":
            return 200, json.dumps(self.userinfo).encode()
        if path == "/token":
            return self._exchange(form)
        return 404, b"{}"

    def _describe(self) -> dict[str, Any]:
        addresses = {
            name: f"{self.url}/{name.partition('_')[0]}" for name in ("authorization_endpoint", "token_endpoint")
        }
        described = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks", "userinfo_endpoint": f"{self.url}/userinfo"}
        return described | addresses | self.description

    def _exchange(self, form: dict[str, str]) -> tuple[int, bytes]:
        """Give an ID token for a code, once, to whoever knows what its challenge was made of (RFC 7636)."""
        asked = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        proven = asked is not None and asked.get("code_challenge_method") == "S256"
        if not proven or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            return 400, b'{"error": "invalid_grant"}'
        claims = {"aud": asked["client_id"], "nonce": asked["nonce"]} | self.claims
        granted = {"id_token": self.sign(**claims), "access_token": "access", "token_type": "Bearer", "expires_in": 300}
        return 200, json.dumps(granted).encode()


def new_key(kid: str, kind: str = "RSA") -> Any:
    """Return a new private key."""
    if kind == "RSA":
        return RSAKey.generate_key(2048, {"kid": kid}, private=True)
    if kind == "EC":
        return ECKey.generate_key("P-256", {"kid": kid}, private=True)
    return OKPKey.generate_key("Ed25519", {"kid": kid}, private=True)


@cache
def _first_key() -> Any:
    return new_key("first")


def sign_by_hand(key: Any, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Return a JWT as RFC 7515 says, by RS256 whatever the header calls it: what no library would make."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims)]
    signed = ".".join(parts)
    signature = key.private_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


@contextmanager
def running_issuer() -> Iterator[IdentityIssuer]:
    """Run an issuer until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            self._answer({name: values[0] for name, values in parse_qs(body).items()})

        def _answer(self, form: dict[str, str]) -> None:
            status, body = issuer.respond(urlsplit(self.path).path, form)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if 300 <= status < 400:
                self.send_header("Location", body.decode())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = IdentityIssuer(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
