"""What is about to be imported: files with the names that they get, and what their publisher says of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from registry.module_info import Builder, Origin, PretrainedConfig


@dataclass(slots=True)
class Found:
    """Files of this machine, ready to be pushed.

    Attributes:
        files: by the paths that they get as artifacts.
        origin: where they came from.
        metrics: that the publisher reports.
        tags: that the publisher gives.
        builder: makes the module that they fill.
        pretrained_cfg: what that module takes and gives.
        notices: what the user should know, as sentences.
        folder: that is pushed as it is, instead of `files`.
    """

    files: dict[str, Path]
    origin: Origin
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    builder: Builder | None = None
    pretrained_cfg: PretrainedConfig | None = None
    notices: list[str] = field(default_factory=list[str])
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """The module that a published file fills; and sentences that the user should know."""

    builder: Builder | None
    pretrained_cfg: PretrainedConfig | None
    notices: list[str]


@dataclass(frozen=True, slots=True)
class Published:
    """One file that a library knows how to fetch, before it is there.

    Attributes:
        source: in full, as it can be imported again.
        urls: outside the Hub, to try in their order.
        hub_id: `org/name` or `org/name@revision` of the Hub repository that holds it, None outside the Hub.
        hub_files: names in that repository, the preferred first.
        license: as its publisher writes it.
        details: other things that the publisher says.
        metrics: that the publisher reports.
        describe: given the file, says which module it fills.
    """

    source: str
    urls: list[str]
    hub_id: str | None
    hub_files: list[str]
    license: str | None
    details: dict[str, str]
    metrics: dict[str, float]
    describe: Callable[[Path], Described]

    def origin(self, *, url: str, revision: str | None = None) -> Origin:
        """Return where the file came from, once that is known."""
        details = {**self.details, **({"revision": revision} if revision else {})}
        return Origin(source=self.source, url=url, license=self.license, details=details)
