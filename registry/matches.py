"""What travels when versions are looked for by what they fit: `POST /compatible` and `POST …/check`."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from registry.compat.report import Need, Verdict
from registry.fields import AnswerModel, WireModel
from registry.formats.inspection import Kind

MAX_MATCHES = 100
Name = Annotated[str, Field(max_length=2_000)]
ArchitectureDocument = Annotated[
    dict[str, Any],
    Field(
        description="An architecture, as `Architecture.to_json` writes it: `tensors` with `name`, `shape`, `dtype`.",
        examples=[{"tensors": [{"name": "fc.weight", "shape": [10, 512], "dtype": "float32"}]}],
    ),
]


class CompatibleQuery(WireModel):
    """What shall be filled, and what may fill it.

    Attributes:
        architecture: of the module.
        team: look at models of this team only.
        kind: look at versions of this kind only.
        limit: matches at most.
    """

    architecture: ArchitectureDocument
    team: Annotated[str, Field(max_length=200)] | None = None
    kind: Kind | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_MATCHES)] = 10


class CheckQuery(WireModel):
    """What shall be filled, and what is said of the comparison.

    Attributes:
        architecture: of the module.
        path: the artifact, where the version has several with weights.
        part: the state_dict inside a checkpoint.
        prefix: `auto` finds how names are wrapped; an empty text keeps them; a pair replaces the first by the second.
        rename: source to target names, or prefixes that end with a dot; or `by-order`.
        classifier: the source's head modules; else what the version recorded.
        first_conv: the target's first convolution modules; else what the version recorded.
    """

    architecture: ArchitectureDocument
    path: Annotated[str, Field(max_length=1_000)] | None = None
    part: Name | None = None
    prefix: Literal["auto", ""] | tuple[Name, Name] = "auto"
    rename: Literal["by-order"] | Annotated[dict[Name, Name], Field(max_length=20_000)] | None = None
    classifier: Annotated[list[Name], Field(max_length=1_000)] | None = None
    first_conv: Annotated[list[Name], Field(max_length=1_000)] | None = None


class CompatibleVersion(AnswerModel):
    """A version that has the architecture; `path` and `part` where its reference alone does not mean the weights."""

    team: str
    model: str
    number: int
    kind: Kind
    created_at: datetime
    path: str | None = None
    part: str | None = None

    @property
    def reference(self) -> str:
        """`team/model:number`, with the artifact where one must be named."""
        return f"{self.team}/{self.model}:{self.number}" + (f"/{self.path}" if self.path else "")


class CompatibleMatch(AnswerModel):
    """One architecture that fits, and the versions that have it.

    Attributes:
        architecture: its digest: over names, shapes, dtypes and what else a comparison looks at.
        into: the module of the target that it fits; empty for the whole target.
        source_prefix: the module of the source that everything used lies in; empty when that is the whole source.
        prefix: what to say as `prefix=`, where another renaming fits about as well.
        verdict, needs, reasons, loads: of the report against `into`.
        coverage: fraction of that module's parameters that would be initialised, 0 to 1.
        share: the same of the whole target's parameters.
        score: what matches are ordered by: the share, less half of what of the source would be left over; half of
            that when `reasons` names an obstacle.
        matched: tensors that would be copied; `tensors` is how many the source has.
        versions: of each model the newest in use, newest first, at most five.
        version_count, model_count: versions and models in use that have this architecture.
    """

    architecture: str
    into: str
    source_prefix: str
    prefix: tuple[str, str] | Literal["auto", ""] | None = None
    verdict: Verdict
    loads: bool
    needs: list[Need]
    reasons: list[str]
    coverage: float
    share: float
    score: float
    matched: int
    tensors: int
    versions: list[CompatibleVersion]
    version_count: int
    model_count: int


class CompatibleMatches(AnswerModel):
    """The matches, the best first."""

    items: list[CompatibleMatch]
