"""Other people's names in our sentences: on one line, with nothing in them that could drive a terminal or a page."""

MAX_CHARACTERS = 200
"""Of one name in a sentence."""
_LATIN = 256


def escape_name(text: str) -> str:
    r"""Return a text on one line: newlines, NUL, right-to-left overrides and the like as `\x0a` or `\u202e`."""
    return text if text.isprintable() else "".join(map(_escape, text))


def quote_name(text: str) -> str:
    """Return a name for a sentence: escaped, and its beginning where it is long."""
    return escape_name(text[:MAX_CHARACTERS])


def _escape(character: str) -> str:
    code = ord(character)
    if character.isprintable():
        return character
    return f"\\x{code:02x}" if code < _LATIN else f"\\u{code:04x}"
