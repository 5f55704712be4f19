"""`weighbridge login`, `logout` and `whoami`: which service, with which token, and who one is there."""

import os
import re
import sys
from datetime import UTC, datetime
from urllib.parse import urlsplit

import click

from registry.cli.options import as_json_option, service_options
from registry.cli.tables import day, in_order, print_facts, print_json, print_table
from registry.client.client import Client
from registry.client.config import SavedLogins, check_url
from registry.client.transport import Transport, route
from registry.errors import AuthenticationRequiredError, ConflictError, NotFoundError
from registry.schema import ServiceInfo
from registry.teams import TokenInfo, WhoAmI

_PAGE = re.compile(r"https?://[\x21-\x7e]{1,500}")
"""An address that a terminal shows as it is."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@click.command()
@click.argument("url")
@as_json_option
def login(url: str, *, as_json: bool) -> None:
    """Remember a service and your token for it.

    The token is asked for, or read from standard input; an empty one is for a service that needs none. It is tried
    before it is kept, in a file that only you can read. A service with single sign-on says which page makes you one.
    """
    url = check_url(url)
    if sys.stdin.isatty():
        _say_where_to_sign_in(url)
    token = (
        click.prompt("Token", hide_input=True, default="", show_default=False, err=True)
        if sys.stdin.isatty()
        else sys.stdin.readline()
    ).strip()
    _warn_of_listeners(url, token)
    # Not by a Client: it would fill in a token from the environment where this one is empty.
    transport = Transport(url, token or None)
    service = transport.get(ServiceInfo, "")
    who = transport.get(WhoAmI, "whoami")
    transport.close()
    place = SavedLogins.load().with_login(url, token or None).save()
    if as_json:
        known = who.model_dump(mode="json")
        print_json({"url": url, "file": str(place), "version": service.version, "whoami": known})
        return
    click.echo(f"Logged in to {url} (Weighbridge {service.version}) as {who.name}; kept in {place}.", err=True)
    for name, chosen, told in (("URL", url, "the service"), ("TOKEN", token, "your token")):
        if os.environ.get(f"WEIGHBRIDGE_{name}", chosen) != chosen:
            click.echo(
                f"note: WEIGHBRIDGE_{name} is set and goes before this; unset it to use {told} as saved.", err=True
            )


def _say_where_to_sign_in(url: str) -> None:
    """Name the page that signs people in and makes them a token, where the service has one."""
    transport = Transport(url)
    try:
        page: object = transport.get(ServiceInfo, "").sign_in
    except AuthenticationRequiredError as error:
        page = error.extra.get("sign_in")
    finally:
        transport.close()
    if isinstance(page, str) and _PAGE.fullmatch(page):
        click.echo(f"Sign in with a browser, on any machine, and make a token there:\n\n    {page}\n", err=True)


def _warn_of_listeners(url: str, token: str) -> None:
    parts = urlsplit(url)
    if token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        click.echo(
            f"warning: the way to {url} is not encrypted: whoever is on it can read your token. Is there an https:// "
            "address?",
            err=True,
        )


@click.command()
@click.argument("url", required=False)
@click.option("--revoke", is_flag=True, help="End the token on the service, too.")
@as_json_option
def logout(url: str | None, *, revoke: bool, as_json: bool) -> None:
    """Forget a service and your token for it.

    Without URL, the one that commands go to now. The service that you logged in to before it is the next default.
    """
    saved = SavedLogins.load()
    chosen = url or os.environ.get("WEIGHBRIDGE_URL") or saved.default_url
    if chosen is None or (check_url(chosen) not in saved.tokens and check_url(chosen) != saved.default_url):
        known = f"Services with a token: {', '.join(saved.tokens)}." if saved.tokens else "No token is saved at all."
        raise NotFoundError(f"You are not logged in to {chosen or 'any service'}. {known}")
    chosen = check_url(chosen)
    token = saved.tokens.get(chosen)
    ended = _revoke(chosen, token) if revoke and token else None
    left = saved.without_login(chosen)
    left.save()
    if as_json:
        print_json({"url": chosen, "revoked": ended, "default_url": left.default_url})
        return
    click.echo(f"Logged out of {chosen}{f'; the token {ended} is revoked' if ended else ''}.", err=True)
    if token and not revoke:
        click.echo("The token itself still works where else it is kept; --revoke ends it.", err=True)
    if left.default_url:
        click.echo(f"Commands go to {left.default_url} now.", err=True)


def _revoke(url: str, token: str) -> str | None:
    """End a token; return how it began, None where it had ended before."""
    transport = Transport(url, token)
    try:
        prefix = transport.get(WhoAmI, "whoami").token
        if prefix is None:
            raise ConflictError(
                f"The token for {url} is the installation's own, or it needs none: whoever runs it changes "
                "WEIGHBRIDGE_TOKEN. Log out without --revoke."
            )
        return transport.call(TokenInfo, "DELETE", route("tokens", prefix)).prefix
    except AuthenticationRequiredError:
        return None
    finally:
        transport.close()


@click.command()
@service_options
def whoami(*, client: Client, as_json: bool) -> None:
    """Show who the service takes you for: your roles, and what your token is for."""
    who = client.whoami()
    if as_json:
        print_json({"url": client.url, **who.model_dump(mode="json")})
        return
    print_facts(
        {
            "name": who.name,
            "service": client.url,
            "may": "administer the installation" if who.administrator else "",
            "token": who.token or "",
            "scopes": ", ".join(in_order(who.scopes)),
            "good for": ", ".join(who.targets) or "all that you may see",
            "expires": _left(who.expires_at) if who.token else "",
        }
    )
    if who.roles:
        click.echo()
        print_table(("TEAM", "YOUR ROLE"), who.roles.items())
    elif not who.administrator:
        click.echo(
            "You are in no team. An admin of one adds you: `weighbridge team add TEAM USER --role ROLE`.", err=True
        )


def _left(moment: datetime | None) -> str:
    if moment is None:
        return "never"
    days = (moment - datetime.now(UTC)).days
    return f"{day(moment)}, in {days} day{'' if days == 1 else 's'}"
