"""What a campaign counts."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Finding:
    """A file that broke the property.

    Attributes:
        what: a sentence.
        data: the file.
        source: the file of the corpus that it was made of.
        execution: which one of the campaign it was, counted from 0.
    """

    what: str
    data: bytes
    source: str
    execution: int


@dataclass(slots=True)
class Figures:
    """The sums of a campaign; those of several processes add up."""

    executions: int = 0
    repeated: int = 0
    past: int = 0
    compared: int = 0
    seconds: float = 0.0
    verdicts: Counter[str] = field(default_factory=Counter[str])
    answers: int = 0
    kept: list[bytes] = field(default_factory=list[bytes])
    findings: list[Finding] = field(default_factory=list[Finding])

    def add(self, other: "Figures") -> None:
        """Take over the sums of another process that ran beside this one."""
        self.executions += other.executions
        self.repeated += other.repeated
        self.past += other.past
        self.compared += other.compared
        self.seconds = max(self.seconds, other.seconds)
        self.verdicts += other.verdicts
        self.answers = max(self.answers, other.answers)
        self.kept += other.kept
        self.findings += other.findings

    def lines(self) -> list[str]:
        """Return the figures as lines for people."""
        speed = self.executions / max(self.seconds, 0.001)
        share = 100 * self.past / max(1, self.executions)
        verdicts = ", ".join(f"{name} {count}" for name, count in self.verdicts.most_common())
        return [
            f"executions             {self.executions:,} in {self.seconds:.0f} s ({speed:,.0f}/s)",
            f"not read again         {self.repeated:,} files that were made before",
            f"past the container     {share:.1f} %",
            f"verdicts               {verdicts}",
            f"compared with torch    {self.compared:,}",
            f"different answers      {self.answers:,}",
            f"findings               {len(self.findings)}",
        ]
