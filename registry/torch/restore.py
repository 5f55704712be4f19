"""From the inert graph of a pickle to live values: the tables say what may be made, and nothing else is."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any, TypeAlias, TypeGuard, cast

import torch

from registry.errors import UnsupportedValueError, WeighbridgeError
from registry.formats.nodes import (
    BigInt,
    Call,
    DictNode,
    Global,
    ListNode,
    Node,
    SetNode,
    StorageRef,
    TupleNode,
)
from registry.formats.values import called_pair
from registry.torch.plain import CONTAINERS, VALUES, check_key, find_constant, refused
from registry.torch.rebuild import REBUILDS, is_convertible, is_rebuild, view_of
from registry.torch.storages import find_dtype
from registry.torch.tensors import TensorMaker

_PLAIN_TENSOR = ("torch._utils", "_rebuild_tensor_v2")
_PLAIN_ARGUMENTS = 6
_PLAIN = (type(None), bool, int, float, str, bytes)
_PLAIN_TYPES = frozenset(_PLAIN)
_INTEGERS = frozenset({int})


class _Stage(Enum):
    ENTER = auto()
    MAKE = auto()
    FILL = auto()


_Step: TypeAlias = tuple[_Stage, Node]


class Restorer:
    """Makes the values of one file's nodes; what the file shares stays shared, and cycles through lists and dicts too.

    Args:
        maker: of the file's tensors.
    """

    def __init__(self, maker: TensorMaker) -> None:
        self._maker = maker
        self._made: dict[int, Any] = {}
        self._open: set[int] = set()

    def restore(self, node: Node) -> Any:
        """Return the value that a node describes. A tensor is converted to the maker's dtype, tensors in others not.

        Raises:
            UnsupportedValueError: it holds anything that is not in the tables; the detail names it.
            MalformedArtifactError: a tensor does not fit its bytes.
        """
        if id(node) not in self._made and _is_plain_tensor(node):
            self._made[id(node)] = made = self._make_plain(node)
            return made
        self._open.clear()
        self._maker.casting = is_rebuild(node) and is_convertible(node)
        pending: list[_Step] = [(_Stage.ENTER, node)]
        # No recursion: a pickle of some kilobytes nests deeper than any stack of calls.
        while pending:
            stage, current = pending.pop()
            if stage is _Stage.ENTER:
                pending.extend(self._enter(current))
            elif stage is _Stage.MAKE:
                pending.extend(self._make(current))
            else:
                self._fill(current)
        return self._value(node)

    def _make_plain(self, node: Call) -> torch.Tensor:
        """Return a tensor of a state_dict, of which there are thousands, without the walk that other values need."""
        storage, offset, shape, stride, requires_grad, _ = node.arguments
        self._maker.casting = True
        try:
            tensor = self._maker.strided(view_of(storage, find_dtype(storage.dtype), offset, shape.items, stride.items))
            return tensor.requires_grad_() if requires_grad else tensor
        except WeighbridgeError:
            raise
        except Exception as error:
            raise _name(error, node.function) from error

    def _enter(self, node: Node) -> Iterator[_Step]:
        if isinstance(node, (*_PLAIN, StorageRef)) or id(node) in self._made:
            return
        if id(node) in self._open:
            raise UnsupportedValueError("The file holds a tuple that contains itself, which cannot be restored.")
        if type(node) is DictNode and all(type(k) is str and type(v) in _PLAIN_TYPES for k, v in node.pairs):
            self._made[id(node)] = dict(node.pairs)  # what torch writes of every module beside a state_dict
            return
        self._open.add(id(node))
        yield _Stage.MAKE, node
        yield from ((_Stage.ENTER, each) for each in _needed(node))

    def _make(self, node: Node) -> Iterator[_Step]:
        self._made[id(node)] = self._new(node)
        self._open.discard(id(node))
        if _is_container(node):
            yield _Stage.FILL, node
            yield from ((_Stage.ENTER, each) for each in _contents(node))

    def _new(self, node: Node) -> Any:  # noqa: PLR0911 - one a class of node
        match node:
            case ListNode():
                return []
            case DictNode():
                return {}
            case TupleNode(items=items):
                return tuple(self._value(each) for each in items)
            case SetNode(items=items, frozen=frozen):
                members = [check_key(self._value(each)) for each in items]
                return frozenset(members) if frozen else set(members)
            case BigInt(data=data):
                return int.from_bytes(data, "little", signed=True)
            case Global():
                return find_constant(node)
            case Call(function=Global()):
                return self._call(node)
            case _:
                raise refused("computed function" if isinstance(node, Call) else "class definition")

    def _call(self, node: Call) -> Any:
        pair = _pair(cast("Global", node.function))
        if node.keywords or not (pair in REBUILDS or pair in CONTAINERS or pair in VALUES):
            raise refused(node.function)
        with _naming(node.function):
            if pair in REBUILDS:
                return REBUILDS[pair](self._maker, [self._argument(each) for each in node.arguments])
            arguments = [self._value(each) for each in node.arguments]
            if pair in CONTAINERS:
                return CONTAINERS[pair](*arguments)
            state = {"state": self._value(node.state)} if node.has_state else {}
            return VALUES[pair](*arguments, **state)

    def _argument(self, node: Node) -> Any:
        """Return an argument of a rebuild function: storages stay references, also in the arguments of another one."""
        if isinstance(node, TupleNode) and any(isinstance(each, StorageRef) for each in node.items):
            return tuple(each if isinstance(each, StorageRef) else self._value(each) for each in node.items)
        return node if isinstance(node, StorageRef) or _is_rebuild_function(node) else self._value(node)

    def _value(self, node: Node) -> Any:
        if isinstance(node, _PLAIN):
            return node
        if not isinstance(node, StorageRef):
            return self._made[id(node)]
        storage = self._maker.storages.get(node.key)
        # Storages themselves are rare in files. torch.load gives typed ones, also of those that were saved untyped.
        return torch.storage.TypedStorage(wrap_storage=storage, dtype=find_dtype(node.dtype), _internal=True)

    def _fill(self, node: Node) -> None:
        value = self._made[id(node)]
        if isinstance(node, ListNode):
            value.extend(self._value(each) for each in node.items)
            return
        for key, each in node.pairs:
            value[check_key(self._value(key))] = self._value(each)
        if isinstance(node, Call):
            with _naming(node.function):
                if node.items:
                    value.extend(self._value(each) for each in node.items)
                if node.has_state:
                    cast("dict[str, Any]", vars(value)).update(self._value(node.state))


@contextmanager
def _naming(function: Node) -> Generator[None]:
    try:
        yield
    except WeighbridgeError:
        raise
    except Exception as error:
        # The constructors of a dozen libraries raise what they like over arguments from a file.
        raise _name(error, function) from error


def _name(error: Exception, function: Node) -> UnsupportedValueError:
    return UnsupportedValueError(f"A {function} of the file cannot be restored: {error}")


def _is_container(node: Node) -> bool:
    if isinstance(node, ListNode | DictNode):
        return True
    return isinstance(node, Call) and isinstance(node.function, Global) and _pair(node.function) in CONTAINERS


def _is_plain_tensor(node: Node) -> TypeGuard[Call]:
    """Return whether a node is what `torch.save` writes of a strided tensor without hooks, metadata or attributes."""
    if type(node) is not Call or called_pair(node) != _PLAIN_TENSOR or len(node.arguments) != _PLAIN_ARGUMENTS:
        return False
    storage, offset, shape, stride, requires_grad, hooks = node.arguments
    if node.has_state or node.keywords or type(storage) is not StorageRef:
        return False
    if type(offset) is not int or type(requires_grad) is not bool:
        return False
    if type(shape) is not TupleNode or type(stride) is not TupleNode or type(hooks) is not Call:
        return False
    if called_pair(hooks) != ("collections", "OrderedDict"):
        return False
    given = hooks.arguments or hooks.keywords or hooks.has_state or hooks.items or hooks.pairs
    return not given and _INTEGERS.issuperset(map(type, shape.items)) and _INTEGERS.issuperset(map(type, stride.items))


def _pair(given: Global) -> tuple[str, str]:
    return given.module, given.name


def _is_rebuild_function(node: Node) -> bool:
    return isinstance(node, Global) and _pair(node) in REBUILDS


def _needed(node: Node) -> Iterable[Node]:
    """Return the nodes whose values must be there before a node's own can be made."""
    match node:
        case TupleNode(items=items) | SetNode(items=items):
            return items
        case Call(arguments=arguments):
            wanted = [each for each in arguments if not _is_rebuild_function(each)]
            return [*wanted, node.state] if node.has_state and not _is_container(node) else wanted
        case _:
            return ()


def _contents(node: ListNode | DictNode | Call) -> Iterator[Node]:
    """Yield the nodes that a container is filled with after it was made."""
    if not isinstance(node, DictNode):
        yield from node.items
    if not isinstance(node, ListNode):
        for key, value in node.pairs:
            yield key
            yield value
    if isinstance(node, Call) and node.has_state:
        yield node.state
