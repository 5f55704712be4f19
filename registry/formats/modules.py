"""A pickled `nn.Module` seen through its inert stand-in: the tensors and modules that it is made of."""

from collections.abc import Iterator
from dataclasses import dataclass

from registry.formats.inert_names import OPTIMIZED_MODULE
from registry.formats.inspection import PathKey, Role
from registry.formats.nodes import Call, Global, Node
from registry.formats.values import as_items, as_pairs, attribute, state_pairs

_OWN = frozenset({"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"})


@dataclass(frozen=True, slots=True)
class ModuleChild:
    """A member of a module: the keys that lead to it, and its role; None for a module below."""

    node: Node
    keys: tuple[PathKey, ...]
    role: Role | None


def is_module(node: Call) -> bool:
    """Return whether an instance has what every `nn.Module` has, or is what `torch.compile` makes of one."""
    if _is_compiled(node):
        return True
    names = {key for key, _ in state_pairs(node) if isinstance(key, str)} if node.has_state else set[str]()
    return {"_parameters", "_buffers", "_modules"} <= names


def module_children(node: Call) -> Iterator[ModuleChild]:
    """Yield parameters, buffers, other attributes and modules, each in stored order: `named_parameters()`'s order.

    What is None is skipped, as `state_dict()` does. A compiled module has the module that it wraps as
    `_orig_mod`; the compiler's own state beside it is not looked into.
    """
    if _is_compiled(node):
        yield ModuleChild(node.arguments[0], ("_orig_mod",), None)
        return
    for key, value in as_pairs(attribute(node, "_parameters")) or ():
        if value is not None:
            yield ModuleChild(value, (_key(key),), "parameter")
    names = as_items(attribute(node, "_non_persistent_buffers_set")) or ()
    temporary = {name for name in names if isinstance(name, str)}
    for key, value in as_pairs(attribute(node, "_buffers")) or ():
        if value is not None:
            role: Role = "non_persistent_buffer" if isinstance(key, str) and key in temporary else "buffer"
            yield ModuleChild(value, (_key(key),), role)
    for key, value in state_pairs(node):
        if isinstance(key, str) and key not in _OWN:
            yield ModuleChild(value, (key,), "attribute")
    for key, value in as_pairs(attribute(node, "_modules")) or ():
        if value is not None:
            yield ModuleChild(value, (_key(key),), None)


def _is_compiled(node: Call) -> bool:
    function = node.function
    named = type(function) is Global and function.pair == OPTIMIZED_MODULE
    return named and bool(node.arguments)


def _key(key: Node) -> PathKey:
    return key if isinstance(key, str | int) else "?"
