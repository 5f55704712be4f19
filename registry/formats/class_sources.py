"""The source texts of classes that old torch files bring along, kept for people to read and bounded for them."""

import re

from registry.formats.allow_list import is_framework
from registry.formats.display import quote_name
from registry.formats.inspection import Document

MAX_CLASS_BYTES = 64 << 10
MAX_BYTES = 1 << 20
"""Of all texts and names of one file together, in UTF-8."""
_NAMED = 5
_ABSOLUTE = re.compile(r"/|\\\\|[A-Za-z]:[\\/]")


class ClassSources:
    """The texts by the names of their classes.

    Attributes:
        texts: at most 64 KiB each and 1 MiB together; a text that was cut ends with a comment that says so.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._lines: dict[str, int] = {}
        self._left_out = False
        self._room = MAX_BYTES
        self._places = False

    def add(self, name: str, place: object, text: str | None) -> None:
        """Note a class, the file that it was saved from, and its text, if there is one."""
        self._places = self._places or (isinstance(place, str) and _ABSOLUTE.match(place) is not None)
        if not text or name in self.texts:
            return
        kept, needed = "", len(name) + min(len(text), MAX_CLASS_BYTES)
        if needed <= self._room:  # a character is a byte or more: only what may fit is worth encoding
            kept = _cut(text)
            needed = _size(name) + _size(kept)
        if needed > self._room:
            self._left_out = True  # not counted: a pickle may be begun more than once
            return
        self._room -= needed
        self.texts[name] = kept
        self._lines[name] = text.count("\n") + (not text.endswith("\n"))

    def note(self, document: Document) -> Document:
        """Hand the texts over to the report on a file, with a sentence on them where it is code; return it."""
        document.inspection.sources = self.texts
        if document.inspection.trust != "tensors" and (self.texts or self._places):
            document.inspection.reasons.append(self._sentence())
        return document

    def _sentence(self) -> str:
        carried = ["the source of its classes"] if self.texts else []
        carried += ["absolute paths of the machine that saved it"] if self._places else []
        strange_first = sorted(self._lines.items(), key=lambda item: is_framework(item[0]))
        listed = [f"{quote_name(name)} ({_say_lines(count)})" for name, count in strange_first]
        named = ", ".join(listed[:_NAMED])
        if self._left_out:
            named += " and more that is not kept"
        elif len(listed) > _NAMED:
            named += f" and {len(listed) - _NAMED} more"
        return f"It carries {' and '.join(carried)}{f': {named}' if named else ''}."


def _say_lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"


def _cut(text: str) -> str:
    start = text[:MAX_CLASS_BYTES].encode(errors="surrogatepass")
    if len(start) <= MAX_CLASS_BYTES and len(text) <= MAX_CLASS_BYTES:
        return text
    comment = f"\n# Cut here: the whole text has {len(text):,} characters.\n"
    return start[: MAX_CLASS_BYTES - len(comment)].decode(errors="ignore") + comment


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
