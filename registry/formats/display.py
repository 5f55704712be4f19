"""Other people's names in our sentences: on one line, with nothing in them that could drive a terminal or a page."""

_LATIN = 256


def shown(text: str) -> str:
    r"""Return a text with newlines, NUL, right-to-left overrides and the like as `\x0a` or `\u202e`."""
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    code = ord(character)
    if character.isprintable():
        return character
    return f"\\x{code:02x}" if code < _LATIN else f"\\u{code:04x}"
