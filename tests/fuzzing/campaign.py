"""Fuzzing from the command line: `make fuzz SECONDS=60`, or `python -m fuzzing.campaign --help`."""

import argparse
import gc
import hashlib
import json
import os
import re
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import torch

from fuzzing.figures import Figures, Finding
from fuzzing.pool import Pool, Seen
from fuzzing.property import Outcome, examine
from fuzzing.seeds import load_seeds

_KEPT_BYTES = 4096
_MOST_FINDINGS = 20
_SAID_EVERY_SECONDS = 60


class Campaign:
    """One process's share: files are changed, read and checked until a number or a time is reached.

    A file that gets an answer nobody got before is kept and changed further.
    """

    def __init__(
        self, files: list[tuple[str, bytes]], seed: int, thorough: float, findings: Path | None = None
    ) -> None:
        self._rng = Random(seed)
        self._thorough = thorough
        self._findings = findings
        self._pool = Pool(files)
        self._seen = Seen()
        self._answers: set[str] = set()
        self.figures = Figures()

    def run(self, executions: int, seconds: float, *, stop_at_finding: bool = False) -> Figures:
        """Run until `executions` are done or `seconds` have passed."""
        gc.collect()
        gc.freeze()  # torch's modules need not be looked through over and over
        started = said = time.monotonic()
        while self.figures.executions < executions and time.monotonic() - started < seconds:
            self._execute()
            if time.monotonic() - said > _SAID_EVERY_SECONDS:
                said = time.monotonic()
                self.figures.seconds = said - started
                sys.stderr.write(f"{self.figures.lines()[0]}; {len(self.figures.findings)} findings\n")
            if self.figures.findings and (stop_at_finding or len(self.figures.findings) >= _MOST_FINDINGS):
                break
        self.figures.seconds = time.monotonic() - started
        self.figures.answers = len(self._answers)
        self.figures.kept = self._pool.kept
        return self.figures

    def _execute(self) -> None:
        rng = self._rng
        name, sample = self._pool.choose(rng)
        data = sample.mutated(rng)
        if not self._seen.add(data):
            self.figures.repeated += 1
            return
        outcome = examine(data, thorough=rng.random() < self._thorough)
        count(self.figures, outcome)
        if outcome.finding is not None:
            finding = Finding(outcome.finding, data, name, self.figures.executions - 1)
            self.figures.findings.append(finding)
            keep(finding, self._findings)
        self._keep(name, data, outcome)

    def _keep(self, name: str, data: bytes, outcome: Outcome) -> None:
        answer = re.sub(r"\d+|'[^']*'", "", f"{outcome.verdict} {outcome.answer}")[:120]
        if answer in self._answers or len(data) > _KEPT_BYTES:
            return
        self._answers.add(answer)
        if outcome.past:
            self._pool.keep(name, data)


def described(finding: Finding) -> dict[str, object]:
    """Return what people need to know of a finding."""
    where = {"from": finding.source, "execution": finding.execution}
    return {"what": finding.what, **where, "sha256": hashlib.sha256(finding.data).hexdigest()[:16]}


def keep(finding: Finding, folder: Path | None) -> None:
    """Write a finding's file, at once: a campaign may be cut short."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha256(finding.data).hexdigest()[:16]).write_bytes(finding.data)


def count(figures: Figures, outcome: Outcome) -> None:
    """Add one execution to the figures."""
    figures.executions += 1
    figures.past += outcome.past
    figures.compared += outcome.compared
    figures.verdicts[outcome.verdict] += 1


def _share(arguments: argparse.Namespace, number: int) -> Figures:
    """Run one process's share; its seed is the campaign's with its own number."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    campaign = Campaign(
        load_seeds(arguments.corpus), arguments.seed * 1000 + number, arguments.thorough, arguments.keep
    )
    executions = arguments.executions // arguments.processes
    return campaign.run(executions, arguments.seconds, stop_at_finding=arguments.stop_at_finding)


def _shares(arguments: argparse.Namespace) -> Figures:
    figures = Figures()
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        for share in [pool.submit(_share, arguments, number) for number in range(arguments.processes)]:
            figures.add(share.result())
    return figures


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="stop after this time (60)")
    parser.add_argument("--executions", type=int, default=1 << 62, help="stop after this many executions")
    parser.add_argument("--seed", type=int, default=1, help="of the random choices (1)")
    parser.add_argument("--processes", type=int, default=1, help="side by side (1)")
    parser.add_argument(
        "--thorough", type=float, default=0.25, help="share of files whose report is looked at as well (0.25)"
    )
    parser.add_argument(
        "--corpus", type=Path, help="a folder of files to start from; else the project's corpus, built anew"
    )
    parser.add_argument(
        "--engine", choices=["random", "atheris"], default="random", help="atheris is guided by coverage"
    )
    parser.add_argument("--stop-at-finding", action="store_true", help="end at the first")
    parser.add_argument(
        "--coverage",
        type=int,
        default=0,
        metavar="N",
        help="then measure branches: of what was kept, and of N executions",
    )
    parser.add_argument("--keep", type=Path, help="a folder to write findings to")
    return parser.parse_args(arguments)


def report(figures: Figures, arguments: argparse.Namespace) -> int:
    """Print the figures and the findings; return the exit status."""
    print(f"seed                   {arguments.seed}, {arguments.processes} process(es), engine {arguments.engine}")
    print("\n".join(figures.lines()))
    for finding in figures.findings:
        print(f"finding                {json.dumps(described(finding))}")
    sys.stdout.flush()
    return int(bool(figures.findings))


def main() -> int:
    """Run a campaign; return 1 when there are findings."""
    arguments = parse(sys.argv[1:])
    if arguments.engine == "atheris":
        # It changes modules while they are imported, so it begins before they are.
        os.execv(sys.executable, [sys.executable, "-m", "fuzzing.guided", *sys.argv[1:]])  # noqa: S606 - this very program
    figures = _share(arguments, 0) if arguments.processes == 1 else _shares(arguments)
    status = report(figures, arguments)
    if arguments.coverage:
        from fuzzing.branches import measure

        files = [data for _, data in load_seeds(arguments.corpus)]
        print(measure(files + figures.kept, arguments.seed, arguments.coverage))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
