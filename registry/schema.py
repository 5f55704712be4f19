"""What travels between service and client: the shapes of DESIGN section 6, shared by both ends.

Sizes are in bytes, times are UTC. A version's *content* never changes; its `annotations` may, with a revision.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, computed_field

from registry.fields import (
    MAX_METRICS,
    MAX_TAGS,
    AnswerModel,
    Description,
    Key,
    Metrics,
    Number,
    Tags,
    TagValue,
    Text,
    WireModel,
)
from registry.formats.inspection import Kind, Trust
from registry.formats.mentions import marked
from registry.module_info import Builder, Origin, PretrainedConfig, Recipe
from registry.teams import Visibility

ItemT = TypeVar("ItemT")


class ModelCreate(WireModel):
    """A new model; pushing to a name creates it too."""

    description: Description = ""
    tags: Tags = {}


class ModelUpdate(WireModel):
    """What changes of a model: members left out stay; a tag set to null goes."""

    description: Description | None = None
    visibility: Visibility | None = None
    tags: Annotated[dict[Key, TagValue | None], Field(max_length=MAX_TAGS)] = {}


class ModelInfo(AnswerModel):
    """A named line of versions. `latest` is the highest live, undeprecated number, None without one.

    `version_count` counts live versions without those in quarantine, of which few may know; `damaged_versions` those
    of them that the service knows to have lost bytes.
    """

    team: str
    name: str
    description: str = ""
    visibility: Visibility = "team"
    tags: dict[str, str] = {}
    latest: int | None = None
    version_count: int = 0
    damaged_versions: int = 0
    created_at: datetime
    created_by: str
    updated_at: datetime
    deleted_at: datetime | None = None

    @property
    def full_name(self) -> str:
        """`team/name`."""
        return f"{self.team}/{self.name}"


class ArtifactAnnouncement(WireModel):
    """What a client says of a file it is about to send; checked against the bytes, never believed."""

    sha256: Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-fA-F]{64}$")] | None = None
    blake3: Annotated[str, Field(pattern=r"^(blake3:)?[0-9a-fA-F]{64}$")] | None = None
    size_bytes: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None


class VersionCreate(WireModel):
    """The metadata of a push.

    Attributes:
        base: a reference to the version that this one was fine-tuned from.
        primary: the artifact that is the version's state_dict when there are several.
        aliases: moved to the new version in the publishing transaction.
        pretrained_cfg: what the module takes and gives.
        recipe: how the weights were fine-tuned.
        origin: where imported weights came from.
        wrappers: what was unwrapped from the module before its state_dict was taken (`DataParallel`).
        artifacts: announcements by path.
    """

    description: Description = ""
    metrics: Metrics = {}
    tags: Tags = {}
    base: Annotated[str, Field(max_length=500)] | None = None
    builder: Builder | None = None
    pretrained_cfg: PretrainedConfig | None = None
    recipe: Recipe | None = None
    origin: Origin | None = None
    wrappers: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=20)] = []
    primary: Annotated[str, Field(max_length=1000)] | None = None
    aliases: Annotated[list[str], Field(max_length=20)] = []
    artifacts: dict[str, ArtifactAnnouncement] = {}


class ArtifactInfo(AnswerModel):
    """A file of a version. `kind`, `trust` and `format` say what its bytes are, whatever its name.

    `reasons` say why `trust` is not `tensors`. `globals` are the classes and functions that it refers to beyond those
    that weights need: sorted, at most 200 of `global_count`, each cut at 200 characters; its manifest has them all as
    `foreign_globals`. Of too many, those outside `torch.nn` and `torch.optim` come first.
    `manifest` is the digest of its tensor manifest, None for opaque files. `tensor_count` counts tensors,
    `parameter_count` elements of distinct tensors that are no optimizer state.
    """

    path: str
    size_bytes: int
    sha256: str
    blake3: str
    format: str | None = None
    kind: Kind = "opaque"
    trust: Trust = "tensors"
    reasons: list[str] = []
    globals: list[str] = []
    global_count: int = 0
    manifest: str | None = None
    tensor_count: int = 0
    parameter_count: int = 0

    @computed_field
    @property
    def marked_globals(self) -> list[str]:
        """Those of `globals` that belong neither to `torch.nn` nor to `torch.optim`: what to look at first."""
        return marked(self.globals)


class Annotations(AnswerModel):
    """What may change of a version; `revision` counts the changes and is the ETag of `PATCH`."""

    description: str = ""
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    deprecated: str | None = None
    revision: int = 1
    updated_at: datetime
    updated_by: str


class AnnotationsUpdate(WireModel):
    """A change of annotations: members left out stay; a metric, tag or deprecation set to null goes."""

    description: Description | None = None
    metrics: Annotated[dict[Key, Number | None], Field(max_length=MAX_METRICS)] = {}
    tags: Annotated[dict[Key, TagValue | None], Field(max_length=MAX_TAGS)] = {}
    deprecated: Annotated[Text, Field(max_length=2_000)] | None = None


class VersionInfo(AnswerModel):
    """A snapshot of a model. `trust` is the worst of its artifacts'; `weights` are the artifacts of its state_dict.

    `weights` is empty when there is no state_dict (`weights_problem` says `no_weights`) or when several files could
    be meant (`ambiguous_weights`). `damaged` are the paths of artifacts whose stored bytes were found missing or
    changed; pushing the same files again mends them.
    """

    team: str
    model: str
    number: int
    kind: Kind
    trust: Trust
    size_bytes: int
    artifacts: list[ArtifactInfo]
    weights: list[str] = []
    weights_problem: Literal["no_weights", "ambiguous_weights"] | None = None
    aliases: list[str] = []
    annotations: Annotations
    base: str | None = None
    builder: Builder | None = None
    pretrained_cfg: PretrainedConfig | None = None
    recipe: Recipe | None = None
    origin: Origin | None = None
    wrappers: list[str] = []
    created_at: datetime
    created_by: str
    deleted_at: datetime | None = None
    purged_at: datetime | None = None
    quarantined_at: datetime | None = None
    notices: list[str] = []
    damaged: list[str] = []

    @property
    def reference(self) -> str:
        """`team/model:number`."""
        return f"{self.team}/{self.model}:{self.number}"


class PurgeCreate(WireModel):
    """Why a version's content goes for good."""

    reason: Annotated[Text, Field(min_length=1, max_length=2_000)]
    now: Annotated[bool, Field(description="also when it is live; its aliases go")] = False


class PurgeInfo(AnswerModel):
    """What a purge freed, and what other versions still hold, in bytes.

    `held_by` are the first of those versions that the caller may see, `held_by_more` says how many there are beside.
    """

    freed_bytes: int
    still_held_bytes: int
    held_by: list[str]
    held_by_more: int = 0


class ArtifactManifest(AnswerModel):
    """The tensor manifest of one weights artifact, as `registry.manifest` defines it."""

    path: str
    digest: str
    manifest: dict[str, Any]


class VersionManifest(AnswerModel):
    """The manifests of the artifacts that make up a version's state_dict (several when it is sharded)."""

    team: str
    model: str
    number: int
    artifacts: list[ArtifactManifest]


class AliasUpdate(WireModel):
    """Where an alias shall point, and why."""

    version: Annotated[int, Field(ge=1, lt=1 << 63)]
    reason: Annotated[Text, Field(max_length=2_000)] = ""


class AliasInfo(AnswerModel):
    """A name that moves between versions. `revision` counts its moves and is its ETag."""

    team: str
    model: str
    name: str
    version: int
    revision: int
    updated_at: datetime
    updated_by: str


class AliasMove(AnswerModel):
    """One recorded move of an alias. `to_version` is None when it was removed."""

    name: str
    revision: int
    from_version: int | None
    to_version: int | None
    moved_at: datetime
    moved_by: str
    reason: str = ""


class Page(AnswerModel, Generic[ItemT]):
    """Some items, and the cursor that continues after them (None at the end)."""

    items: list[ItemT]
    cursor: str | None = None


class Limits(AnswerModel):
    """What the service takes at most."""

    max_artifact_bytes: int
    max_artifacts: int
    max_metadata_bytes: int
    max_page: int


class ServiceInfo(AnswerModel):
    """Who answers: `GET /api/v1`. `sign_in` is where people sign in with a browser, None where they cannot."""

    name: Literal["weighbridge"] = "weighbridge"
    version: str
    registry_id: str
    capabilities: list[str]
    limits: Limits
    default_team: str | None = None
    sign_in: str | None = None
