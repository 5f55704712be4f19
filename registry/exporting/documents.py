"""The JSON documents of an export folder, as people read them without Weighbridge and as an import reads them.

    DIR/weighbridge.json          what this folder is (`ExportInfo`); says that it is finished last of all
    DIR/SHA256SUMS                digests of all other files, as `sha256sum -c` takes them
    DIR/MODEL/model.json          a model and its aliases (`ModelDocument`)
    DIR/MODEL/3.json              version 3 of it (`VersionDocument`)
    DIR/MODEL/3/…                 the very files of version 3

Times are UTC, sizes are in bytes. A reader ignores members that it does not know.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from registry.fields import AnswerModel
from registry.formats.inspection import Kind, Trust
from registry.module_info import Builder, Origin, PretrainedConfig, Recipe
from registry.schema import AliasMove
from registry.teams import Role, UnsafePolicy, Visibility

FORMAT = "weighbridge-export"
FORMAT_VERSION = 1
INFO_NAME = "weighbridge.json"
SUMS_NAME = "SHA256SUMS"
MODEL_NAME = "model.json"
MAX_DOCUMENT_BYTES = 64 << 20
"""Of one JSON document. The largest that the service can make have a few MiB."""
Number = Annotated[int, Field(ge=1, lt=1 << 63)]


class Rules(AnswerModel):
    """The team's rules and limits (see `TeamInfo`), for people: an import changes no rules."""

    protected_aliases: list[str] = []
    code_pushed_by: Role | None = None
    code_opened_by: Role = Role.READER
    unsafe: UnsafePolicy = "refuse"
    max_bytes: int | None = None
    max_versions: int | None = None
    max_artifact_bytes: int | None = None


class Counts(AnswerModel):
    """How much is in the folder, and what is not.

    Attributes:
        size_bytes: of the exported files of versions.
        files_left_out: of exported versions; each says why, in `VersionDocument.files`.
        versions_left_out: that were deleted or purged; `ModelDocument.left_out` names them.
        versions_not_shown: that the team has, and the exporting user was not shown or whose model is deleted; None
            where nobody can say.
    """

    models: int = 0
    versions: int = 0
    files: int = 0
    size_bytes: int = 0
    files_left_out: int = 0
    versions_left_out: int = 0
    versions_not_shown: int | None = None


class ListedModel(AnswerModel):
    """A model of the export and the folder that it is in."""

    name: str
    folder: str


class ExportInfo(AnswerModel):
    """What the folder is. Without `finished` it was broken off, and the same command goes on with it.

    Attributes:
        registry_id: of the service that the export is of, which stays the same when its URL changes.
        only_models: globs of names, when not all models were asked for.
        rules: None where the exporting user is no member of the team.
    """

    format: Literal["weighbridge-export"] = FORMAT
    format_version: int = FORMAT_VERSION
    finished: bool
    team: str
    registry_id: Annotated[str, Field(min_length=1, max_length=200)]
    service_url: str
    service_version: str
    exported_at: datetime
    exported_by: str
    only_models: list[str] = []
    rules: Rules | None = None
    counts: Counts = Counts()
    models: list[ListedModel] = []


class ListedAlias(AnswerModel):
    """An alias, and all its moves, the newest first."""

    name: str
    version: Number
    moved_at: datetime
    moved_by: str
    history: list[AliasMove] = []


class LeftOutVersion(AnswerModel):
    """A version that is not in the folder, and why."""

    number: int
    why: str


class ModelDocument(AnswerModel):
    """A model; `versions` are the numbers of those that are in the folder."""

    team: str
    name: str
    description: str = ""
    visibility: Visibility = "team"
    tags: dict[str, str] = {}
    created_at: datetime
    created_by: str
    aliases: list[ListedAlias] = []
    versions: list[Number] = []
    left_out: list[LeftOutVersion] = []


class FileDocument(AnswerModel):
    """A file of a version: what the registry found it to be, and where in the folder it is.

    Attributes:
        path: its name in the version.
        file: its path in the export folder; None where it was left out.
        left_out: why it is not there.
        globals: of the classes and functions that it refers to beyond those that weights need, the first.
    """

    path: str
    file: str | None = None
    left_out: str | None = None
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: str
    blake3: str
    format: str | None = None
    kind: Kind = "opaque"
    trust: Trust = "tensors"
    reasons: list[str] = []
    globals: list[str] = []
    global_count: int = 0
    tensor_count: int = 0
    parameter_count: int = 0


class VersionDocument(AnswerModel):
    """A version with everything that a push can say of it, and who pushed it when.

    Attributes:
        weights: which of its files are its state_dict.
        base: the version that it was fine-tuned from, by the numbers of the service that was exported.
    """

    team: str
    model: str
    number: Number
    kind: Kind
    trust: Trust
    size_bytes: int
    created_at: datetime
    created_by: str
    files: list[FileDocument]
    weights: list[str] = []
    description: str = ""
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    deprecated: str | None = None
    annotated_at: datetime
    annotated_by: str
    base: str | None = None
    builder: Builder | None = None
    pretrained_cfg: PretrainedConfig | None = None
    recipe: Recipe | None = None
    origin: Origin | None = None
    wrappers: list[str] = []
    quarantined_at: datetime | None = None

    @property
    def reference(self) -> str:
        """`team/model:number`, as it was called where it was exported."""
        return f"{self.team}/{self.model}:{self.number}"
