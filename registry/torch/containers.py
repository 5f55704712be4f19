"""Walking and rebuilding what people put into a checkpoint: dicts, lists and tuples around tensors."""

import collections
import copy
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch

from registry.errors import UnsupportedValueError

_PLAIN_DICTS = {dict, collections.OrderedDict, collections.defaultdict, collections.Counter}


def iter_values(value: object) -> Iterator[tuple[str, Any]]:
    """Yield every value inside nested dicts, lists and tuples once, with its dotted name."""
    seen: set[int] = set()
    pending: list[tuple[str, Any]] = [("", value)]
    while pending:
        name, found = pending.pop()
        members = list(_members(found))
        if members and id(found) in seen:
            continue
        seen.add(id(found))
        if not members:
            yield name, found
        pending.extend((f"{name}.{key}" if name else str(key), each) for key, each in reversed(members))


def _members(value: object) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from cast("Mapping[Any, Any]", value).items()
    elif isinstance(value, list | tuple):
        yield from enumerate(cast("list[Any]", value))


def plain_mapping(given: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a mapping as a dict of a class that every reader knows; a user's own class would be code in the file."""
    if type(given) in _PLAIN_DICTS:
        return cast("dict[Any, Any]", given)
    plain = collections.OrderedDict(given)
    if isinstance(getattr(given, "_metadata", None), Mapping):
        vars(plain)["_metadata"] = cast("Any", given)._metadata  # noqa: SLF001 - where torch itself puts it
    return plain


def replace_tensors(value: object, copies: Mapping[int, torch.Tensor]) -> Any:
    """Return a value with tensors replaced by `id`; containers around them are copied, shared ones once.

    Raises:
        UnsupportedValueError: containers nest deeper than Python can follow.
    """
    if not copies:
        return value
    try:
        return _Replacement(copies).of(value)
    except RecursionError as error:
        raise UnsupportedValueError("The checkpoint nests its containers too deep to be saved.") from error


class _Replacement:
    def __init__(self, copies: Mapping[int, torch.Tensor]) -> None:
        self._done: dict[int, Any] = dict(copies)

    def of(self, value: Any) -> Any:
        if id(value) in self._done:
            return self._done[id(value)]
        if isinstance(value, dict):
            found = cast("dict[Any, Any]", value)
            replaced = self._done[id(found)] = copy.copy(found)
            for key, each in found.items():
                replaced[key] = self.of(each)
            return replaced
        if type(value) is list:
            items = cast("list[Any]", value)
            filled: list[Any] = []
            self._done[id(items)] = filled
            filled.extend(self.of(each) for each in items)
            return filled
        if issubclass(_type(value), tuple):
            members = [self.of(each) for each in value]
            if any(old is not new for old, new in zip(value, members, strict=True)):
                # A named tuple takes its members one by one.
                self._done[id(value)] = _type(value)(*members) if hasattr(value, "_fields") else tuple(members)
            return self._done.get(id(value), value)
        return value


def _type(value: object) -> Any:
    return type(value)
