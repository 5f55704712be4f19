"""What a load did: which tensors came from where, and which stayed, in torch's words."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from registry.compat.words import line, some_names

if TYPE_CHECKING:
    from registry.compat.report import CompatibilityReport


@dataclass(slots=True)
class LoadResult:
    """What was loaded, and what was not; names are those of the module, or of the submodule that was loaded into.

    Attributes:
        report: what the check before the load said.
        loaded: target name → source name of every tensor and entry (`_extra_state`) that was filled.
        missing_keys: target names that stayed as they were.
        unexpected_keys: source names that were left out.
        adapted: target name → what was done to make the source's tensor fit.
        notices: what was chosen or done without being asked.
    """

    report: "CompatibilityReport"
    loaded: dict[str, str]
    missing_keys: list[str] = field(default_factory=list[str])
    unexpected_keys: list[str] = field(default_factory=list[str])
    adapted: dict[str, str] = field(default_factory=dict[str, str])
    notices: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        lines = [f"LOADED: {len(self.loaded):,} tensors of {self.report.source}"]
        lines += line("stayed", some_names(self.missing_keys))
        lines += line("left out", some_names(self.unexpected_keys))
        for at, (name, note) in enumerate(self.adapted.items()):
            lines += line("adapted" if at == 0 else "", f"{name}: {note}")
        return "\n".join([*lines, *self.notices])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "report": self.report.to_json(),
            "loaded": self.loaded,
            "missing_keys": self.missing_keys,
            "unexpected_keys": self.unexpected_keys,
            "adapted": self.adapted,
            "notices": self.notices,
            "text": str(self),
        }
