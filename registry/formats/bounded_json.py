"""JSON out of files that nobody trusts: bounded in size, depth and number of values, and meaning one thing only."""

import json
import re
from typing import Any, NoReturn

from registry.errors import MalformedArtifactError
from registry.formats.limits import Limits

_TOKENS_PER_NAME = {b",": 12, b'"': 24, b"\\": 24, b"{": 4, b"[": 4}
"""How often a header has these for each tensor that it names, with room for texts; counting them takes no time."""
_OBJECT_BYTES = 1024
_TEXTS = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?', re.DOTALL)
"""Texts. Possessive, and a text may lack its end, so that no input makes it slow."""
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def parse_json(data: bytes, limits: Limits, what: str) -> Any:
    """Return the value that `data` holds.

    Args:
        data: UTF-8 without a byte order mark.
        limits: `json_bytes`, `json_depth`, `integer_digits`, and `names` for the number of values.
        what: how to call it in an error (`the header`).

    Raises:
        MalformedArtifactError: it is no JSON; or repeats a key, holds NaN, lone surrogates, or exceeds a limit.
    """
    if len(data) > limits.json_bytes:
        _refuse(what, f"is longer than {limits.json_bytes} bytes")
    data = data.rstrip(b" ")
    if len(data) > limits.json_slack_bytes + _OBJECT_BYTES * data.count(b"{"):
        _refuse(what, "is longer than what it describes accounts for")
    if any(data.count(token) > most * limits.names for token, most in _TOKENS_PER_NAME.items()):
        _refuse(what, "holds too many values")
    if _is_deeper(data, limits.json_depth):
        _refuse(what, f"is nested more than {limits.json_depth} deep")
    try:
        value = _decode(data, limits)
        if b"\\ud" in data or b"\\uD" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        _refuse(what, "is not valid UTF-8")
    except _NotOneMeaningError as error:
        _refuse(what, str(error))
    except ValueError:
        _refuse(what, "is not valid JSON")
    return value


class _NotOneMeaningError(Exception):
    """JSON that parsers disagree about; the message says what it does."""


def _decode(data: bytes, limits: Limits) -> Any:
    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(members)
        if len(found) != len(members):
            raise _NotOneMeaningError("repeats a key")
        return found

    def integer(digits: str) -> int:
        if len(digits.removeprefix("-")) > limits.integer_digits:
            raise _NotOneMeaningError(f"holds an integer of more than {limits.integer_digits} digits")
        return int(digits)

    def constant(word: str) -> NoReturn:
        raise _NotOneMeaningError(f"holds {word}, which JSON lacks")

    # Python's own integers are read by C: ours look at one that has too many digits, if there can be any.
    is_long = re.search(rb"[0-9]{%d}" % (limits.integer_digits + 1), data)
    parse_int = integer if is_long else None
    return json.loads(data.decode(), object_pairs_hook=pairs, parse_int=parse_int, parse_constant=constant)


def _is_deeper(data: bytes, depth: int) -> bool:
    """Return whether brackets nest more than `depth` deep: what is left when the innermost pairs go, so often."""
    brackets = _TEXTS.sub(b"", data).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(depth):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return b"[]" in brackets or len(brackets) > depth


def _refuse(what: str, problem: str) -> NoReturn:
    raise MalformedArtifactError(f"{what[0].upper()}{what[1:]} {problem}.")
