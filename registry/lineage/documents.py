"""What travels when two versions are compared: `GET …/diff/{other}` and `GET …/lineage`."""

from typing import Literal

from pydantic import computed_field

from registry.fields import AnswerModel
from registry.lineage.contents import TensorContent
from registry.lineage.differences import Change, Differences, Pair

MAX_LISTED = 1000
"""Tensors of one group that an answer lists."""
DEFAULT_LISTED = 100


class TensorForm(AnswerModel):
    """What a tensor is without its values; `form` is `strided` nearly always."""

    shape: list[int]
    dtype: str
    form: str = "strided"


class TensorPair(AnswerModel):
    """A tensor as it was and as it is; null where it was not, or is not, there."""

    name: str
    old: TensorForm | None
    new: TensorForm | None


class TensorGroup(AnswerModel):
    """Tensors of which the same became: how many, their bytes, and the first of them; `more` are not listed."""

    count: int
    size_bytes: int
    tensors: list[TensorPair]
    more: int


class VersionDiff(AnswerModel):
    """What became of the tensors on the way from `old` to `new`; each tensor is in one group.

    Attributes:
        old, new: references, or paths of local files.
        old_bytes, new_bytes: of the values of all tensors, those of tied ones once.
        shared_bytes: how many of `new_bytes` are in `old` too, under whatever names.
        added, removed: tensors that only `new`, or only `old`, has.
        reshaped: they have another shape. `retyped`: the same shape in another dtype, layout or quantisation.
        changed: they have other values. `equal`: the same, bit by bit.
        unknown: digests do not tell, as of compressed files and of views of a part of a storage.
    """

    old: str
    new: str
    old_bytes: int
    new_bytes: int
    shared_bytes: int
    added: TensorGroup
    removed: TensorGroup
    reshaped: TensorGroup
    retyped: TensorGroup
    changed: TensorGroup
    unknown: TensorGroup
    equal: TensorGroup

    @computed_field
    @property
    def is_equal(self) -> bool:
        """Whether both are known to have the same tensors under the same names, with the same values."""
        others = (self.added, self.removed, self.reshaped, self.retyped, self.changed, self.unknown)
        return not any(each.count for each in others)

    def group(self, change: Change) -> TensorGroup:
        """Return the tensors of which this became."""
        found: TensorGroup = getattr(self, change)
        return found


class LineageChange(AnswerModel):
    """Tensors that changed together.

    Attributes:
        kind: `head` of a task, running `statistics` of BatchNorm and its like, or any other `module`.
        name: of the module; of several heads with commas between; empty for statistics and for the network itself.
        count: how many tensors changed, came or went. `total`: how many there are of that kind and name in both.
        reshaped: whether some have another shape.
    """

    kind: Literal["head", "statistics", "module"]
    name: str
    count: int
    total: int
    reshaped: bool = False


class Lineage(AnswerModel):
    """Where a version's tensors come from, as far as digests tell.

    Attributes:
        version: a reference.
        compared_with: a reference; null where nothing was found that it has in common with.
        relation: `base` where its push named that, `closest` where it shares most bytes of what the caller may read.
        shared_bytes: of `total_bytes`, which are those of its state_dict's values.
        equal: tensors that are the same under the same name. `unknown`: tensors of which digests do not tell.
        changes: what is not the same, the largest first.
        text: all of this as a sentence; empty where `compared_with` is null.
    """

    version: str
    compared_with: str | None = None
    relation: Literal["base", "closest"] | None = None
    shared_bytes: int = 0
    total_bytes: int = 0
    equal: int = 0
    unknown: int = 0
    changes: list[LineageChange] = []  # noqa: RUF012 - pydantic copies the defaults of its documents
    text: str = ""


def describe_differences(old: str, new: str, found: Differences, limit: int) -> VersionDiff:
    """Return differences as they travel, with at most `limit` tensors a group."""
    groups = {change: _group(pairs, limit) for change, pairs in found.pairs.items()}
    sizes = {"old_bytes": found.old_bytes, "new_bytes": found.new_bytes, "shared_bytes": found.shared_bytes}
    return VersionDiff.model_validate({"old": old, "new": new, **sizes, **groups})


def _group(pairs: list[Pair], limit: int) -> TensorGroup:
    listed = [TensorPair(name=each.name, old=_form(each.old), new=_form(each.new)) for each in pairs[:limit]]
    size_bytes = sum(each.size_bytes for each in pairs)
    return TensorGroup(count=len(pairs), size_bytes=size_bytes, tensors=listed, more=len(pairs) - len(listed))


def _form(content: TensorContent | None) -> TensorForm | None:
    if content is None:
        return None
    return TensorForm(shape=list(content.shape), dtype=content.dtype, form=content.form)
