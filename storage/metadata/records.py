"""What the use cases hand to the catalog and get back, where `registry.schema` has no word for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from registry.formats.source import ByteRange
from registry.schema import ArtifactInfo, VersionCreate
from registry.teams import Role, Scope, TokenKind
from registry.tiles import Tile


class Actor(NamedTuple):
    """Who did something, for the record: their name, how their token begins, where from, in which request."""

    name: str
    token: str | None = None
    address: str | None = None
    request_id: str | None = None


class Word(NamedTuple):
    """Whose word says who somebody is, and of whom: `iss` and `sub` of what it signed."""

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody whom an identity provider has just signed in.

    Attributes:
        name: of the user that they become where nobody is bound to their identity yet; None where they become none.
        refusal: why they become none.
        roles: what their groups give them, by team.
        is_administrator: whether a group makes them one.
    """

    word: Word
    name: str | None
    refusal: str | None
    roles: Mapping[str, Role]
    is_administrator: bool


@dataclass(frozen=True, slots=True)
class Secret:
    """How a new token begins, the digest of the whole, and when it ends; None where only revoking ends it."""

    prefix: str
    digest: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Sight:
    """Which models somebody may read.

    Attributes:
        everything: those of all teams.
        teams: those of these teams; beside them the models that everyone may read.
        targets: of those only these teams (`vision`) and models (`vision/resnet50`), where there are any.
        quarantine: what is in quarantine there, too.
    """

    everything: bool = False
    teams: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    quarantine: bool = False


@dataclass(frozen=True, slots=True)
class UseQuery:
    """Whose versions to look for: those that somebody may read, of one team and kind where they are given."""

    sight: Sight
    team: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class KnownToken:
    """What the rows say of a token and of who holds it.

    Attributes:
        digest: `sha256:…` of the whole token.
        is_live: False where it was revoked or has expired, or its owner is disabled.
        last_used_at: when its use was last noted, which is not done at each.
        word: on whose it was made; None where a user or an operator made it.
    """

    prefix: str
    digest: str
    is_live: bool
    user: str
    is_administrator: bool
    roles: dict[str, Role]
    scopes: frozenset[Scope]
    targets: frozenset[str]
    expires_at: datetime | None
    last_used_at: datetime | None
    kind: TokenKind = "made"
    word: Word | None = None


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries of the audit to list; None means any. `since` is part of the time, `until` is not."""

    team: str | None = None
    actor: str | None = None
    action: str | None = None
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Extent:
    """A byte range of a stored object; an artifact is an ordered list of them."""

    location: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class NewStorage:
    """A storage that lies in the artifact: `blake3:…`, offset and length in the artifact, in bytes."""

    digest: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Source:
    """An object that a push reuses, as it was when its bytes were read."""

    object_id: int
    sha256: str
    location: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PlannedExtent:
    """A byte range of an object that there is already, or with None of what is sent."""

    object_id: int | None
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Pack:
    """What had to be sent of an artifact, as one freshly written object."""

    location: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Assembly:
    """How an artifact lies of which some was stored before.

    Attributes:
        extents: they tile it exactly.
        sources: the objects that they name.
        pack: None where nothing had to be sent.
    """

    extents: tuple[PlannedExtent, ...]
    sources: tuple[Source, ...]
    pack: Pack | None = None


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A verified artifact: one freshly written object at `location`, or an assembly, to be bound to its digest.

    `storages` and `tiles` lie in the artifact; nothing else of it can be reused.
    """

    info: ArtifactInfo
    location: str
    storages: tuple[NewStorage, ...] = ()
    manifest: bytes | None = None
    tiles: tuple[Tile, ...] = ()
    assembly: Assembly | None = None

    @property
    def fresh_locations(self) -> list[str]:
        """Where its bytes were written that nobody has named yet."""
        if self.assembly is None:
            return [self.location]
        return [] if self.assembly.pack is None else [self.assembly.pack.location]


@dataclass(frozen=True)
class NewArchitecture:
    """An architecture for the index: its digest, its compressed document, and how often it has each mark.

    `weight_count` counts its tensors but for the counters of BatchNorm. The marks take as long to make as the rest and
    are needed where nobody had the architecture before.
    """

    digest: str
    weight_count: int
    document: bytes
    make_marks: Callable[[], dict[int, int]]

    @cached_property
    def marks(self) -> dict[int, int]:
        """How often it has each mark."""
        return self.make_marks()


@dataclass(frozen=True, slots=True)
class NewArchitectureUse:
    """A state_dict of a new version; `path` and `part` where the version's reference alone does not mean it."""

    architecture: NewArchitecture
    path: str | None = None
    part: str | None = None


@dataclass(frozen=True, slots=True)
class NewVersion:
    """All that one publishing transaction makes visible.

    Attributes:
        fingerprint: of what was asked for; the same `Idempotency-Key` with another one is refused.
        base_number: team, model and number of the base; its text is in `metadata.base`.
        idempotency: the caller and the `Idempotency-Key` of a push that began with `begin_push`.
        upload: id of the planned upload that it was, and who holds its verification.
        uses: the architectures of its state_dicts.
    """

    team: str
    model: str
    by: Actor
    metadata: VersionCreate
    artifacts: tuple[NewArtifact, ...]
    kind: str
    trust: str
    weights: tuple[str, ...]
    weights_problem: str | None
    fingerprint: str
    base_number: tuple[str, str, int] | None = None
    idempotency: tuple[str, str] | None = None
    upload: tuple[str, str] | None = None
    notices: tuple[str, ...] = ()
    uses: tuple[NewArchitectureUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Replay:
    """An `Idempotency-Key` that came before and led to a version."""

    number: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """An artifact and where its bytes are now.

    Attributes:
        is_whole_object: one object holds them and nothing else.
        is_damaged: some of them are known to be gone or changed.
    """

    info: ArtifactInfo
    extents: tuple[Extent, ...]
    version_number: int
    is_whole_object: bool
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge freed, and what stays because other versions hold it, in bytes.

    Attributes:
        held_by: the first of those that the caller may see, at most 20.
        held_by_more: how many there are beside these.
    """

    freed_bytes: int
    still_held_bytes: int
    held_by: list[str]
    held_by_more: int


@dataclass(frozen=True, slots=True)
class ModelQuery:
    """Which models to list, and how.

    Attributes:
        search: words that must occur in team, name, description or tags, ignoring case.
        tags: values by key that the model must have.
        sort: `name`, `-updated`, `-created`, …; a leading minus is descending.
    """

    search: str | None = None
    team: str | None = None
    tags: dict[str, str] = field(default_factory=dict[str, str])
    kind: str | None = None
    sort: str = "name"


@dataclass(frozen=True, slots=True)
class AnnotationChange:
    """One recorded change of annotations; `changes` holds the members that were sent."""

    revision: int
    changed_at: datetime
    changed_by: str
    changes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that rows know: what lies at `location`."""

    location: str
    team: str
    sha256: str
    size_bytes: int
    object_id: int = 0
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class Shrunk:
    """An object of which a purge let go, and what of it artifacts still have: offsets and lengths, in order, apart."""

    stored: StoredObject
    shrunk_at: datetime
    live: tuple[ByteRange, ...]

    @property
    def live_bytes(self) -> int:
        """How many bytes of it artifacts still have."""
        return sum(length for _, length in self.live)


@dataclass(frozen=True, slots=True)
class Collected:
    """What one step of collecting doomed: objects and their bytes."""

    object_count: int
    size_bytes: int
