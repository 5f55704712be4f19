"""`weighbridge login`: remember a service and the token for it."""

import sys

import click

from registry.cli.options import as_json_option
from registry.cli.tables import print_json
from registry.client.config import SavedLogins, check_url
from registry.client.transport import Transport
from registry.schema import ModelInfo, Page, ServiceInfo


@click.command()
@click.argument("url")
@as_json_option
def login(url: str, *, as_json: bool) -> None:
    """Remember a service and your token for it.

    The token is asked for, or read from standard input; an empty one is for a service that needs none. It is tried
    before it is kept, in a file that only you can read.
    """
    url = check_url(url)
    token = (
        click.prompt("Token", hide_input=True, default="", show_default=False, err=True)
        if sys.stdin.isatty()
        else sys.stdin.readline()
    ).strip()
    # Not by a Client: it would fill in a token from the environment where this one is empty.
    transport = Transport(url, token or None)
    service = transport.get(ServiceInfo, "")
    transport.get(Page[ModelInfo], "models", [("limit", 1)])
    transport.close()
    place = SavedLogins.load().with_login(url, token or None).save()
    if as_json:
        print_json({"url": url, "file": str(place), "version": service.version})
        return
    click.echo(f"Logged in to {url} (Weighbridge {service.version}); kept in {place}.", err=True)
