"""Other people's text on a terminal: names and values with nothing in them that could drive it."""

import json
from typing import Any

import click


def shorten(text: str, width: int) -> str:
    """Return a text of at most `width` characters: its middle gives way, since names differ at their ends."""
    if len(text) <= width:
        return text
    head = (width - 1) // 3
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def print_document(document: Any) -> None:
    """Print a value as one line of JSON, in ASCII: any terminal, pipe and parser takes it."""
    click.echo(json.dumps(document, ensure_ascii=True, allow_nan=False))
