"""What came of an import: of each version, of each alias, and why it stopped where it did."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from registry.errors import WeighbridgeError

VersionState: TypeAlias = Literal["new", "there", "deleted", "left_out", "refused"]
AliasState: TypeAlias = Literal["set", "there", "kept", "refused", "lost"]


@dataclass(frozen=True, slots=True)
class VersionOutcome:
    """What became of a version.

    Attributes:
        source: its reference where it was exported.
        reference: its reference here; None where it is not, or would be made.
        state: `new`, `there` before, `deleted` here meanwhile, `left_out` of the export, or `refused` by the service.
        why: of the last three.
    """

    source: str
    reference: str | None
    state: VersionState
    why: str = ""


@dataclass(frozen=True, slots=True)
class AliasOutcome:
    """What became of an alias.

    Attributes:
        alias: `team/model@alias`, as it is called here.
        version: that it would point at, by its number here.
        state: `set` now, `there` as it is meant to be, `kept` as somebody set it here, `refused`, or `lost`: its
            version is not here.
        why: of the last two.
        failure: of a refused one.
    """

    alias: str
    version: int | None
    state: AliasState
    why: str = ""
    failure: WeighbridgeError | None = None


@dataclass(slots=True)
class TeamImport:
    """What came of an import.

    Attributes:
        team: that it went to.
        versions: in the order in which they were imported.
        aliases: what became of each.
        notices: what else the user should know, as sentences.
        failure: the first refusal, or what stopped the import; None when there was neither.
        stopped: whether the import ended before it was through: the service was away, say, or the team is full.
    """

    team: str
    versions: list[VersionOutcome] = field(default_factory=list[VersionOutcome])
    aliases: list[AliasOutcome] = field(default_factory=list[AliasOutcome])
    notices: list[str] = field(default_factory=list[str])
    failure: WeighbridgeError | None = None
    stopped: bool = False

    def refuse(self, error: WeighbridgeError, notice: str = "") -> None:
        """Keep the first refusal, and a notice of what it is about."""
        self.failure = self.failure or error
        if notice:
            self.notices.append(notice)

    def stop(self, error: WeighbridgeError, versions_left: int) -> None:
        """Take what ends the import; what was done stays told."""
        self.failure = error
        self.stopped = True
        told = f" {versions_left} version{'' if versions_left == 1 else 's'} not tried yet." if versions_left else ""
        self.notices.append(f"It stopped before the end.{told} The same command goes on later.")
