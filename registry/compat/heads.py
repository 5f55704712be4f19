"""Where the head of a network is: recorded, or seen in which tensors do not fit."""

from collections.abc import Iterable, Sequence
from fractions import Fraction

from registry.architecture import Architecture
from registry.compat.leftovers import HEAD_NAME
from registry.tensor_names import shared_head
from registry.tensor_spec import TensorSpec

MOST = 0.5


def find_head(
    source: Architecture,
    target: Architecture,
    mismatched: Sequence[tuple[TensorSpec, TensorSpec]],
    matched_count: int,
) -> list[str]:
    """Return the source modules whose mismatch is that of another number of classes; empty when it is not.

    All mismatched tensors differ in dimension 0 only, by one common ratio in each branch (a network of several tasks
    has a head for each), lie in modules after which nothing else comes in their branch, and the tensors that fit are
    most of all. (The ratio alone would call an LSTM into a GRU, a wider hidden layer or a bias table a head.)

    Args:
        source: what was saved.
        target: what shall be filled; its order tells what comes last where the source lost its own.
        mismatched: source and target tensor of each pair that no adapter can mend.
        matched_count: how many pairs fit.
    """
    if not mismatched or not _most_fits(matched_count, mismatched):
        return []
    if not _have_one_ratio_a_branch(mismatched):
        return []
    by_source = source.is_ordered or not target.is_ordered
    names = source.tensors if by_source else target.tensors
    places = [(have if by_source else want).name.rpartition(".")[0] for have, want in mismatched]
    if not _end_their_branches(set(places), names):
        return []
    return list(dict.fromkeys(have.name.rpartition(".")[0] for have, _ in mismatched))


def guess_head(source: Architecture) -> list[str]:
    """Return the last module that has a matrix of weights: where nothing was recorded and nothing mismatched.

    In a file that lost the order of its modules, the last that is called as heads are.
    """
    for name in reversed(source.tensors):
        spec = source.tensors[name]
        module = name.rpartition(".")[0]
        if module and len(spec.shape) > 1 and (source.is_ordered or HEAD_NAME.search(module)):
            return [module]
    return []


def _most_fits(matched_count: int, mismatched: Sequence[tuple[TensorSpec, TensorSpec]]) -> bool:
    """Return whether more fits than not; of a network of two layers, where one is the head, half is enough."""
    share = matched_count / (matched_count + len(mismatched))
    one_module = len({want.name.rpartition(".")[0] for _, want in mismatched}) == 1
    return share > MOST or (share == MOST and one_module)


def _have_one_ratio_a_branch(mismatched: Sequence[tuple[TensorSpec, TensorSpec]]) -> bool:
    owners = [want.name.rpartition(".")[0] for _, want in mismatched]
    shared = len(shared_head(min(owners), max(owners)))
    ratios: dict[str, Fraction] = {}
    for owner, (have, want) in zip(owners, mismatched, strict=True):
        ratio = _ratio(have.shape, want.shape)
        if ratio is None or ratios.setdefault(owner[shared:].partition(".")[0], ratio) != ratio:
            return False
    return True


def _ratio(have: Sequence[int], want: Sequence[int]) -> Fraction | None:
    if not have or len(have) != len(want) or list(have[1:]) != list(want[1:]) or not have[0]:
        return None
    return Fraction(want[0], have[0])


def _end_their_branches(heads: set[str], names: Iterable[str]) -> bool:
    """Return whether nothing but heads comes after each head below its parent, and nothing hangs below a head."""
    parents = {head.rpartition(".")[0] for head in heads}
    tops = {head.partition(".")[0] for head in heads}
    owners = [name.rpartition(".")[0] for name in names]
    last = {owner: at for at, owner in enumerate(owners)}
    last_other: dict[str, int] = {}
    for owner, at in last.items():
        is_head = owner in heads
        module = owner
        while module:
            if module in heads and module != owner:
                return False
            if module in parents and not is_head:
                last_other[module] = max(at, last_other.get(module, -1))
            module = module.rpartition(".")[0]
        # At the top, a branch that ends in a head of its own may follow: `aux2.conv` after `aux1.fc2`.
        if not is_head and owner.partition(".")[0] not in tops:
            last_other[""] = max(at, last_other.get("", -1))
    return all(last_other.get(head.rpartition(".")[0], -1) < owners.index(head) for head in heads & last.keys())
