"""The source texts that a TorchScript archive brings along: what they would do, and what they say of their modules."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from registry.errors import MalformedArtifactError
from registry.formats.archive import Archive
from registry.formats.display import quote_name
from registry.formats.inspection import Role
from registry.formats.limits import Limits

_TEXT_BYTES = 64 << 20
_FILE_WORDS = rb"save|from_file|read_file|write_file"
_FILE_CALLS = re.compile(
    rb"\w*\)?\s*[.:]\s*(?:" + _FILE_WORDS + rb")\b"
    rb"|[\"'](?:" + _FILE_WORDS + rb")[\"']"
    rb"|ops\s*\.\s*\w+\s*\.\s*\w*(?:save|load|file|exec|system)\w*\s*\("
    rb"|getattr\s*\([^\n]*\\"
)
"""Operators that touch files, also by another name for `torch`, or by an attribute whose name is escaped."""

_OPERATORS = (b"aten::save", b"aten::from_file", b"image::read_file", b"image::write_file")
_CUSTOM_OPERATOR = re.compile(rb"\bops\s*\.\s*(\w+)\s*\.\s*(\w+)")
_OWN_NAMESPACES = frozenset({b"aten", b"prim", b"quantized", b"prims", b"mkldnn", b"prepacked", b"profiler"})
_CLASS = re.compile(r"^class (\S+?)\((Module|Interface|NamedTuple|Enum|)\):$", re.MULTILINE)
_NAMES = re.compile(r"^  __(parameters|buffers)__ = \[(.*?)\]", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")


@dataclass(slots=True)
class ModuleClass:
    """What the source of a module's class says of its attributes."""

    parameters: set[str] = field(default_factory=set[str])
    buffers: set[str] = field(default_factory=set[str])

    def role(self, name: str) -> Role:
        """Return what the attribute `name` is to the module."""
        if name in self.parameters:
            return "parameter"
        return "buffer" if name in self.buffers else "constant"


def read_texts(archive: Archive, limits: Limits) -> dict[str, bytes]:
    """Return the source texts by the names of their records, with continued lines joined.

    Raises:
        MalformedArtifactError: they are too long.
    """
    names = [name for name in archive.entries if is_text(name)]
    if sum(archive.entries[name].size for name in names) > _TEXT_BYTES:
        raise MalformedArtifactError(f"The TorchScript archive has more than {_TEXT_BYTES} bytes of code.")
    return {name: archive.read(name, limits.pickle_bytes).replace(b"\\\n", b" ") for name in names}


def is_text(name: str) -> bool:
    """Return whether a record holds TorchScript source."""
    return name.startswith(("code/", ".data/ts_code/code/")) and name.endswith(".py")


def file_calls(texts: Mapping[str, bytes]) -> list[str]:
    """Return, sorted, how the sources call what reads or writes files."""
    found = {match.group() for text in texts.values() for match in _FILE_CALLS.finditer(text)}
    return sorted(quote_name(call.decode("latin-1").strip()) for call in found)


def file_operators(bytecode: bytes) -> list[str]:
    """Return, sorted, the operators of compiled code that read or write files."""
    return sorted(word.decode() for word in _OPERATORS if word in bytecode)


def custom_operators(texts: Mapping[str, bytes]) -> list[str]:
    """Return, sorted, the operators that torch does not bring along."""
    pairs = {pair for text in texts.values() for pair in _CUSTOM_OPERATOR.findall(text)}
    return sorted(b"::".join(pair).decode() for pair in pairs if pair[0] not in _OWN_NAMESPACES)


def module_classes(texts: Mapping[str, bytes]) -> dict[str, ModuleClass]:
    """Return what the sources say of each module class, by its qualified name."""
    return {name: each for path, data in texts.items() for name, each in _iter_classes(path, data)}


def _iter_classes(path: str, data: bytes) -> Iterator[tuple[str, ModuleClass]]:
    text = data.decode(errors="replace")
    package = path.rpartition("code/")[2].removesuffix(".py").replace("/", ".")
    headings = list(_CLASS.finditer(text))
    for heading, following in zip(headings, [*headings, None][1:], strict=True):
        if heading[2] == "Module":
            body = text[heading.end() : following.start() if following else len(text)]
            yield f"{package}.{heading[1]}", _module_class(body)


def _module_class(body: str) -> ModuleClass:
    listed = {match[1]: {one or two for one, two in _QUOTED.findall(match[2])} for match in _NAMES.finditer(body)}
    return ModuleClass(listed.get("parameters", set()), listed.get("buffers", set()))
