"""Every name of two architectures, sorted into what fits, what has another shape, and what has no partner."""

from collections.abc import Collection
from dataclasses import dataclass, field

from registry.architecture import Architecture
from registry.compat.rename_map import RenameMap
from registry.compat.rules import find_load_rules, fits
from registry.tensor_spec import TensorSpec


@dataclass(slots=True)
class Pairing:
    """What fits and what does not.

    Attributes:
        matched: target name → source name of what torch copies.
        mismatched: source and target tensor of one name and two shapes.
        unexpected: source names without a place.
        missing: target names that nothing fills.
        cast: matched pairs of two dtypes, layouts or quantisations.
        tied: matched target names whose storage others share.
        tied_to: target names that nothing fills by name → the source name that fills their storage.
        counters: target names that torch itself would fill.
        dropped: source names that torch drops without a word.
    """

    matched: dict[str, str] = field(default_factory=dict[str, str])
    mismatched: list[tuple[TensorSpec, TensorSpec]] = field(default_factory=list[tuple[TensorSpec, TensorSpec]])
    unexpected: list[str] = field(default_factory=list[str])
    missing: list[str] = field(default_factory=list[str])
    cast: list[tuple[TensorSpec, TensorSpec]] = field(default_factory=list[tuple[TensorSpec, TensorSpec]])
    tied: list[str] = field(default_factory=list[str])
    tied_to: dict[str, str] = field(default_factory=dict[str, str])
    counters: list[str] = field(default_factory=list[str])
    dropped: list[str] = field(default_factory=list[str])

    def match(self, have: TensorSpec, want: TensorSpec) -> None:
        """Note a pair of which torch copies one to the other."""
        self.matched[want.name] = have.name
        if have.dtype != want.dtype or have.layout != want.layout or have.quantised != want.quantised:
            self.cast.append((have, want))
        if want.tie is not None:
            self.tied.append(want.name)


def pair_up(source: Architecture, target: Architecture, renames: RenameMap) -> Pairing:
    """Return the pairs that the renamed names make, torch's own load rules and ties taken into account."""
    pairing = _pair(source, target, renames)
    rules = find_load_rules(source, target, renames, missing=pairing.missing, unexpected=pairing.unexpected)
    if rules.filled:
        for name, source_name in rules.filled.items():
            pairing.match(source.tensors[source_name], target.tensors[name])
        _leave_out(pairing.missing, rules.filled)
        _leave_out(pairing.unexpected, rules.filled.values())
    pairing.counters, pairing.dropped = rules.counters, rules.dropped
    _leave_out(pairing.missing, rules.counters)
    _leave_out(pairing.unexpected, rules.dropped)
    if pairing.missing and pairing.tied:
        pairing.tied_to = _find_tied(target, pairing)
        _leave_out(pairing.missing, pairing.tied_to)
    return pairing


def _pair(source: Architecture, target: Architecture, renames: RenameMap) -> Pairing:
    pairing = Pairing()
    matched = pairing.matched
    wanted = map(target.tensors.get, renames.names.values())  # in source order, and then of entries
    for have, want in zip(source.tensors.values(), wanted, strict=False):
        if want is None:
            pairing.unexpected.append(have.name)
            continue
        name, shape, dtype, _, _, layout, quantised, _ = have
        to, wanted_shape, wanted_dtype, _, tie, wanted_layout, wanted_quantised, _ = want
        if wanted_shape == shape and wanted_dtype == dtype and tie is None:
            # What nearly all are; the same as `match`, without the call, and without a look at each attribute.
            matched[to] = name
            if layout != wanted_layout or quantised != wanted_quantised:
                pairing.cast.append((have, want))
        elif fits(have, want):
            pairing.match(have, want)
        else:
            pairing.mismatched.append((have, want))
    if len(matched) + len(pairing.mismatched) < len(target.tensors):
        met = {want.name for _, want in pairing.mismatched}
        pairing.missing = [name for name in target.tensors if name not in matched and name not in met]
    return pairing


def _leave_out(names: list[str], others: Collection[str]) -> None:
    if others:
        gone = set(others)
        names[:] = [name for name in names if name not in gone]


def _find_tied(target: Architecture, pairing: Pairing) -> dict[str, str]:
    """Return the names that nothing fills, whose storage another name fills, with the source of that."""
    filled = {target.tensors[name].tie: pairing.matched[name] for name in pairing.tied}
    ties = {name: target.tensors[name].tie for name in pairing.missing if name in target.tensors}
    return {name: filled[tie] for name, tie in ties.items() if tie is not None and tie in filled}
