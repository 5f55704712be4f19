"""The small pages of signing in: who you are, a token for the command line, what went wrong. Without any script."""

import base64
import hashlib
from html import escape

from fastapi.responses import HTMLResponse

from api.oidc.places import SIGN_IN, SIGN_OUT, TOKEN

_STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5a6675; --line: #d9dee5; --ground: #f5f6f8; --card: #fff;
  --strong: #1f5fbf; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #343d49; --ground: #12161c; --card: #1b212a; --strong: #7fb0ff; }
}
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem 1rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 40rem; margin: 6vh auto 0; padding: 2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
h1 { margin: 0 0 .5rem; font-size: 1.4rem; }
p { margin: .75rem 0; }
.soft { color: var(--soft); font-size: .925rem; }
code { font: .9em ui-monospace, monospace; background: var(--ground); padding: .1em .35em; border-radius: 4px; }
.secret { display: block; padding: .75rem; border: 1px solid var(--line); overflow-wrap: anywhere; user-select: all; }
form { display: inline-block; margin: .5rem .5rem 0 0; }
button { font: inherit; padding: .5rem 1rem; border-radius: 6px; border: 1px solid var(--strong); cursor: pointer;
  background: var(--strong); color: var(--card); }
button.second { background: transparent; color: var(--strong); }
a { color: var(--strong); }
button:focus-visible, a:focus-visible { outline: 3px solid var(--soft); outline-offset: 2px; }
"""
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with none at all, forms would say `Origin: null`
}


def signed_in(name: str, may: str, service: str, days: int) -> HTMLResponse:
    """Return the page that says who has signed in, and makes a token for the command line."""
    return _page(
        f"Signed in as {name}",
        f"<p>{escape(may)}</p>"
        f"<p>On a machine without this browser, a token is your way in. It may do all that you may, lives for {days} "
        "days, and outlasts this session.</p>"
        f'<form method="post" action="{TOKEN}"><button>Make a token for the command line</button></form>'
        f"{_SIGN_OUT}"
        f'<p class="soft">Then run <code>weighbridge login {escape(service)}</code> and paste it. '
        "<code>weighbridge token list</code> shows your tokens, <code>weighbridge token revoke</code> ends one.</p>",
    )


def new_token(token: str, service: str, days: int) -> HTMLResponse:
    """Return the page that tells a token's secret, this once."""
    return _page(
        "Your token",
        f'<p><code class="secret">{escape(token)}</code></p>'
        f"<p>It is told only now and lives for {days} days. Copy it, run <code>weighbridge login {escape(service)}"
        "</code> where you work, and paste it there.</p>"
        f"{_SIGN_OUT}"
        '<p class="soft">Whoever has it comes in as you. When it is lost, <code>weighbridge token revoke</code> ends '
        "it at once.</p>",
    )


def signed_out() -> HTMLResponse:
    """Return the page after signing out."""
    return _page(
        "Signed out",
        "<p>This browser's session has ended. You may still be signed in at your identity provider, and tokens that "
        "you made for the command line still work.</p>",
    )


def failed(title: str, detail: str, request_id: str | None, status: int) -> HTMLResponse:
    """Return the page that says why somebody is not signed in."""
    known = f'<p class="soft">Request {escape(request_id)}</p>' if request_id else ""
    # A link, for browsers hold the redirect of a form against `form-action`.
    again = f'<p><a href="{SIGN_IN}">Begin again</a></p>'
    return _page(title, f"<p>{escape(detail)}</p>{again}{known}", status)


_SIGN_OUT = f'<form method="post" action="{SIGN_OUT}"><button class="second">Sign out</button></form>'


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · Weighbridge</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>",
        status,
        HEADERS,
    )
