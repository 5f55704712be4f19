"""Which source name fills which target name: found by voting over equal suffix and shape, never guessed silently.

A map is a few rules "strip this prefix, add that one", found like this: every source tensor votes, with the target
tensors that share its longest suffix and its shape, for the pair of prefixes that remains. The rule that fills most
of the target wins if it beats every rule that contradicts it by 10 % of the target. Wrappers' name parts
(`module`, `_orig_mod`) are ignored on both sides wherever they stand.
"""

import random
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

from registry.architecture import Architecture
from registry.compat.rename_map import RenameMap, Rule, refuse_collisions
from registry.errors import AmbiguousPrefixError
from registry.tensor_names import Endings, unwrap_name
from registry.tensor_spec import TensorSpec

MAX_CANDIDATES = 6
MAX_VOTERS = 96
MARGIN = 0.10


@dataclass(slots=True)
class _Candidate:
    """A rule and the source → target pairs of equal shape that it makes."""

    rule: Rule
    pairs: dict[str, str]

    def contradicts(self, other: "_Candidate") -> bool:
        """Return whether the two fill one target from two sources, or send one source to two targets."""
        small, large = sorted((self.pairs, other.pairs), key=len)
        source_of = {target: source for source, target in large.items()}
        return any(
            large.get(source, target) != target or source_of.get(target, source) != source
            for source, target in small.items()
        )


def find_renames(source: Architecture, target: Architecture) -> RenameMap:
    """Return the map under which `source` fills most of `target`; identity wins where it is as good.

    Raises:
        AmbiguousPrefixError: two contradicting maps fill about as much, or two names fall together.
    """
    have, want = source.tensors, target.tensors
    kept = _same_names(have, want)
    same, reachable = len(kept), min(len(have), len(want))
    if same == reachable:
        return _keep(source)
    bare_source, bare_target = source.bare, target.bare
    is_bare = bare_source is have and bare_target is want
    if is_bare and same > (1 - MARGIN) * reachable:
        # Nothing could beat that by the margin.
        return _keep(source)
    if not is_bare:
        kept = _same_names(bare_source, bare_target)
    candidates = _find_candidates(bare_source, bare_target, target.endings, kept)
    chosen = _choose(candidates, bare_source, bare_target, as_stored=same)
    rules = [each.rule for each in chosen]
    paired = dict(chain.from_iterable(each.pairs.items() for each in reversed(chosen)))
    if len(paired) <= same:
        return _keep(source)
    if is_bare:
        names = dict(zip(have, have, strict=True)) | paired
        names.update((name, _apply(rules, name, want)) for name in have.keys() - paired.keys())
    else:
        names = _wrapped_names(source, target, paired, rules)
    for entry in source.entries:
        names[entry] = _apply(rules, entry if bare_source is have else unwrap_name(entry), {})
    refuse_collisions(names)
    return RenameMap(names, tuple(rules))


def _keep(source: Architecture) -> RenameMap:
    names = [*source.tensors, *source.entries]
    return RenameMap(dict(zip(names, names, strict=True)))


def _wrapped_names(
    source: Architecture, target: Architecture, paired: Mapping[str, str], rules: Sequence[Rule]
) -> dict[str, str]:
    """Return where names go, as they are stored, when they were compared without wrapper parts."""
    stored = dict(zip(target.bare, target.tensors, strict=True))
    names: dict[str, str] = {}
    for name, bare in zip(source.tensors, source.bare, strict=True):
        renamed = paired.get(bare) or _apply(rules, bare, target.bare)
        names[name] = stored.get(renamed, name if renamed == bare else renamed)
    return names


def _find_candidates(
    source: Mapping[str, TensorSpec], target: Mapping[str, TensorSpec], endings: Endings, kept: dict[str, str]
) -> list[_Candidate]:
    """Return the rules with most votes and identity, best first; equal ones identity first, then the plainest."""
    identity = _Candidate(Rule("", ""), kept)
    votes = _vote(source, endings)
    worthy = MARGIN / 4 * min(len(source), MAX_VOTERS)
    worth_it = [prefixes for prefixes, count in votes.items() if count >= worthy]
    elected = sorted(worth_it, key=lambda prefixes: (-votes[prefixes], prefixes))[:MAX_CANDIDATES]
    rules = [Rule(*prefixes) for prefixes in elected if any(prefixes)]
    return sorted([identity, *(_Candidate(rule, _pairs(rule, source, target)) for rule in rules)], key=_order)


def _order(candidate: _Candidate) -> tuple[int, int, str, str]:
    rule = candidate.rule
    return -len(candidate.pairs), len(rule.strip) + len(rule.add), rule.strip, rule.add


def _pairs(rule: Rule, source: Mapping[str, TensorSpec], target: Mapping[str, TensorSpec]) -> dict[str, str]:
    strip, add, cut = rule.strip, rule.add, len(rule.strip)
    concerned = [name for name in source if name.startswith(strip)] if strip else list(source)
    renamed = [add + name[cut:] for name in concerned]
    return {
        name: new
        for name, new, other in zip(concerned, renamed, map(target.get, renamed), strict=True)
        if other is not None and other.shape == source[name].shape
    }


def _same_names(source: Mapping[str, TensorSpec], target: Mapping[str, TensorSpec]) -> dict[str, str]:
    if source.keys().isdisjoint(target):
        return {}
    return {
        name: name
        for name, have in source.items()
        if (want := target.get(name)) is not None and want.shape == have.shape
    }


def _vote(source: Mapping[str, TensorSpec], endings: Endings) -> dict[tuple[str, str], int]:
    """Count, for every pair of prefixes (strip, add), the source tensors whose best partner it would give.

    At most `MAX_VOTERS` vote, drawn evenly: a rule that could be taken concerns a tenth of them.
    """
    names = list(source)
    votes: dict[tuple[str, str], int] = {}
    for name in [names[at] for at in _draw(len(names))]:
        strip, twins = endings.find_twins(name, source[name].shape)
        for add in twins:
            rule = strip, add
            votes[rule] = votes.get(rule, 0) + 1
    return votes


@lru_cache(maxsize=1000)
def _draw(count: int) -> Sequence[int]:
    """Return the places of those who vote: the same ones in all networks of so many tensors."""
    if count <= MAX_VOTERS:
        return range(count)
    return random.Random(0).sample(range(count), MAX_VOTERS)  # noqa: S311 - a repeatable sample, no secret


def _choose(
    candidates: Sequence[_Candidate],
    source: Mapping[str, TensorSpec],
    target: Mapping[str, TensorSpec],
    *,
    as_stored: int,
) -> list[_Candidate]:
    """Return the best rule, and those that add to it without contradicting it; none when nothing fits well.

    Args:
        candidates: best first.
        source: the tensors to rename.
        target: the tensors to fill.
        as_stored: how many pairs the names make without any change.

    Raises:
        AmbiguousPrefixError: a rule that contradicts one of them is about as good.
    """
    reachable = min(len(source), len(target))
    chosen: list[_Candidate] = []
    covered: set[str] = set()
    enough = max(1, MARGIN * reachable)
    for candidate in candidates:
        new = len(candidate.pairs.keys() - covered)
        if new < enough or _contradicts_any(candidate, chosen):
            continue
        if candidate.rule.moves_number and 2 * new < reachable:
            continue
        if chosen or len(candidate.pairs) > as_stored:
            others = [each for each in candidates if each not in chosen and not _contradicts_any(each, chosen)]
            _refuse_rivals(candidate, others, covered, enough, source, target)
        chosen.append(candidate)
        covered |= candidate.pairs.keys()
    return chosen


def _contradicts_any(candidate: _Candidate, others: Sequence[_Candidate]) -> bool:
    return any(candidate.contradicts(each) for each in others)


def _refuse_rivals(  # noqa: PLR0917 - what `_choose` knows
    best: _Candidate,
    candidates: Sequence[_Candidate],
    covered: AbstractSet[str],
    margin: float,
    source: Mapping[str, TensorSpec],
    target: Mapping[str, TensorSpec],
) -> None:
    worth = len(best.pairs.keys() - covered) - margin
    near = [each for each in candidates if each is not best and len(each.pairs.keys() - covered) > worth]
    close = [each for each in near if best.contradicts(each)]
    if not close:
        return
    listed: list[dict[str, Any]] = []
    for each in [best, *close]:
        # As stored, with what wrappers put there: what is listed here must work when it is said.
        have, want = next(iter(each.pairs.items()))
        strip, add = next(iter(RenameMap({source[have].name: target[want].name}).changes), ("", ""))
        listed.append({"strip": strip, "add": add, "tensors": len(each.pairs)})
    words = "; ".join(f"prefix=({c['strip']!r}, {c['add']!r}) fills {c['tensors']}" for c in listed)
    raise AmbiguousPrefixError(
        f"Several renamings fit about equally well: {words} tensors. Say which with `prefix=(strip, add)`.",
        candidates=listed,
    )


def _apply(rules: Sequence[Rule], name: str, target: Mapping[str, TensorSpec]) -> str:
    """Return the first renaming that the target knows, else the first that concerns the name, else the name."""
    first: str | None = None
    for rule in rules:
        renamed = rule.apply(name)
        if renamed is not None:
            if renamed in target:
                return renamed
            first = first or renamed
    return first or name
