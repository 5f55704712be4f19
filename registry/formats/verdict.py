"""What a file's pickles make of it: tensors, code or unsafe, and the sentences that say why."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from registry.errors import MalformedArtifactError
from registry.formats.allow_list import GETATTR_PAIRS, Standing, standing
from registry.formats.data_calls import check_data_calls
from registry.formats.inert_names import COMPILER_CLASSES, OPTIMIZED_MODULE, TENSOR_PAIRS
from registry.formats.inspection import Trust
from registry.formats.limits import Limits
from registry.formats.mentions import is_marked, name_some
from registry.formats.nodes import Call, DictNode, Global, ListNode, Node, SetNode, TupleNode
from registry.formats.values import as_pairs, called_pair, function_name

DATA_CLASSES_ONLY = "data_classes_only"
"""The word that begins the reason of a file whose only code is data classes of the standard library."""

_DANGEROUS_ATTRIBUTES = frozenset(
    {"__setstate__", "__getstate__", "__reduce__", "__reduce_ex__", "__class__", "__dict__", "__getattr__", "__call__"}
)
_TAKES_STATE = frozenset({"collections.OrderedDict", "torch.nn.parameter.Parameter", "numpy.dtype"})
_TAKES_PAIRS = frozenset({"collections.OrderedDict", "collections.Counter"})
_TAKES_ITEMS = frozenset({"builtins.set", "__builtin__.set"})
_NEVER_CALLED = frozenset(
    pair
    for pair in TENSOR_PAIRS
    if pair[0] in {"torch", "torch.cuda", "torch.sparse", "torch.cuda.sparse", "torch.storage"}
) - {("torch", "Size"), ("torch", "device")}
_NAMED = 6
"""Classes in the sentence on code."""


@dataclass(slots=True)
class Verdict:
    """The trust that a file deserves.

    Attributes:
        trust: `tensors`, `code` or `unsafe`.
        reasons: sentences that say why it is not `tensors`.
        globals: sorted, everything mentioned.
        foreign_globals: sorted, what is outside the allow-list.
    """

    trust: Trust
    reasons: list[str] = field(default_factory=list[str])
    globals: list[str] = field(default_factory=list[str])
    foreign_globals: list[str] = field(default_factory=list[str])


def judge(mentioned: Iterable[Global], calls: Sequence[Call], dangers: Sequence[str], limits: Limits) -> Verdict:
    """Return what a pickle's mentions, calls and tricks make of its file.

    Raises:
        MalformedArtifactError: torch's own names are called in a way that torch would refuse.
    """
    by_standing: dict[Standing, list[str]] = {}
    for each in {str(each): each for each in mentioned}.values():
        by_standing.setdefault(standing(each.module, each.name), []).append(str(each))
    reasons = [*dangers, *_unsafe_changes(calls), *_dangerous_attributes(calls)]
    unsafe = sorted(by_standing.get("unsafe", []))
    if "getattr" in by_standing and not _getattr_is_the_compilers(calls, limits):
        unsafe += by_standing["getattr"]
    if unsafe:
        reasons.insert(0, f"Loading it would call or refer to what no weights need: {name_some(unsafe)}.")
    everything = sorted(name for names in by_standing.values() for name in names)
    harmless = {*by_standing.get("tensors", ()), *by_standing.get("numpy", ())}
    foreign = [name for name in everything if name not in harmless]
    if reasons:
        return Verdict("unsafe", reasons, everything, foreign)
    _check_calls(calls)
    reasons = _code_reasons(by_standing, calls)
    if not reasons:
        check_data_calls(calls)
    return Verdict("code" if reasons else "tensors", reasons, everything, foreign)


def _code_reasons(by_standing: dict[Standing, list[str]], calls: Sequence[Call]) -> list[str]:
    classes = sorted([*by_standing.get("code", []), *by_standing.get("compiler", [])])
    data = sorted(by_standing.get("data", []))
    reasons: list[str] = []
    if classes:
        # The list of all is shown beside it: here come those first that are not everybody's.
        named = sorted(classes, key=lambda name: not is_marked(name))
        reasons.append(f"Loading it runs code of these classes and functions: {name_some(named, _NAMED)}.")
        if not any(map(is_marked, classes)):
            reasons.append("All of them belong to torch.nn or torch.optim.")
    objects = any(_holds_objects(call) for call in calls)
    if objects:
        reasons.append("It holds a numpy array of Python objects.")
    if data and not classes and not objects:
        reasons.append(f"{DATA_CLASSES_ONLY}: it needs nothing but plain data classes: {name_some(data)}.")
    if "compiler" in by_standing:
        reasons.append(
            "It is a module that torch.compile made: such files carry the compiler's configuration, absolute paths "
            "of the machine that saved it included. Save the state_dict instead."
        )
    return reasons


def _unsafe_changes(calls: Sequence[Call]) -> list[str]:
    """Return sentences on values of torch's own functions that are changed afterwards: how memory gets corrupted."""
    found: list[str] = []
    for call in calls:
        if not (call.has_state or call.pairs or call.items):
            continue
        pair = called_pair(call)
        if pair is None or standing(*pair) != "tensors":
            continue
        name = function_name(call)
        for what, changed, takers in (
            ("sets the state", call.has_state, _TAKES_STATE),
            ("sets items", bool(call.pairs), _TAKES_PAIRS),
            ("appends items", bool(call.items), _TAKES_ITEMS),
        ):
            sentence = f"It {what} of a value that {name} made, which takes none."
            if changed and name not in takers and sentence not in found:
                found.append(sentence)
    return found


def _dangerous_attributes(calls: Sequence[Call]) -> list[str]:
    """Return a sentence when an instance is given attributes that change what it does."""
    for call in calls:
        if not call.has_state:
            continue
        parts = call.state.items if type(call.state) is TupleNode else (call.state,)
        for part in parts:
            for key, _ in as_pairs(part) or ():
                if isinstance(key, str) and key in _DANGEROUS_ATTRIBUTES:
                    return [f"It sets {key} of an instance."]
    return []


def _check_calls(calls: Sequence[Call]) -> None:
    """Refuse calls of torch's names that are no functions: dtypes, storages, tensor types."""
    for pair in {called_pair(call) for call in calls}:
        if pair in _NEVER_CALLED:
            raise MalformedArtifactError(f"The file calls {pair[0]}.{pair[1]}, which torch never writes.")


def _holds_objects(call: Call) -> bool:
    """Return whether a call makes a numpy dtype that is not plainly one of numbers, texts or bytes."""
    if called_pair(call) != ("numpy", "dtype"):
        return False
    code = call.arguments[0] if call.arguments else None
    return not isinstance(code, str) or "O" in code or not code.isalnum()


def _getattr_is_the_compilers(calls: Sequence[Call], limits: Limits) -> bool:
    """Return whether every getattr is of a compiled module's context, on its classes, with a literal name."""
    looked_up = [call for call in calls if called_pair(call) in GETATTR_PAIRS]
    inside: set[int] = set()
    for call in calls:
        if called_pair(call) == OPTIMIZED_MODULE:
            inside |= _reachable(call.arguments[1:], limits)
    return bool(looked_up) and all(id(call) in inside and _is_plain_lookup(call) for call in looked_up)


def _is_plain_lookup(call: Call) -> bool:
    if len(call.arguments) != 2:  # noqa: PLR2004 - the object and the name
        return False
    target, name = call.arguments
    owner = target.function if type(target) is Call else target
    listed = type(owner) is Global and owner.pair in COMPILER_CLASSES
    return listed and isinstance(name, str) and name.isidentifier() and not name.startswith("__")


def _reachable(roots: Sequence[Node], limits: Limits) -> set[int]:
    """Return the identities of the calls that `roots` lead to."""
    found: set[int] = set()
    seen: set[int] = set()
    waiting: list[Node] = list(roots)
    while waiting and len(seen) < limits.references:
        node = waiting.pop()
        if not isinstance(node, Call | DictNode | ListNode | TupleNode | SetNode) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Call):
            found.add(id(node))
            waiting += [node.function, *node.arguments, node.state, *node.items]
            waiting += [part for pair in (*node.pairs, *node.keywords) for part in pair]
        elif isinstance(node, DictNode):
            waiting += [part for pair in node.pairs for part in pair]
        else:
            waiting += node.items
    return found
