"""Fuzzing guided by coverage: atheris (libFuzzer) over the reader, with our own mutations. Linux only."""

import functools
import os
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from random import Random
from typing import NoReturn

_LONGEST_BYTES = 1 << 16
_CACHED = 2000


def main() -> NoReturn:
    """Run until the time or the number of executions is over, print the figures and end the process.

    libFuzzer never returns; one process, whatever the options say.
    """
    import atheris

    with atheris.instrument_imports(include=["registry.formats"]):
        import registry.formats.reader  # noqa: F401 - instrumented while it is imported

    from fuzzing.campaign import count, keep, parse, report
    from fuzzing.figures import Figures, Finding
    from fuzzing.property import examine
    from fuzzing.samples import take_apart
    from fuzzing.seeds import save_seeds

    warnings.simplefilter("ignore")
    arguments = parse(sys.argv[1:])
    figures, clock = Figures(), list[float]()
    rng = Random(arguments.seed)
    corpus = Path(tempfile.mkdtemp(prefix="weighbridge-fuzz-"))

    def execute(data: bytes) -> None:
        if not clock:
            clock.append(time.monotonic())
        outcome = examine(data, thorough=rng.random() < arguments.thorough)
        count(figures, outcome)
        if outcome.finding is not None:
            finding = Finding(outcome.finding, data, "atheris", figures.executions - 1)
            figures.findings.append(finding)
            keep(finding, arguments.keep)
        figures.seconds = time.monotonic() - clock[0]
        over = figures.executions >= arguments.executions or figures.seconds >= arguments.seconds
        if over or (figures.findings and arguments.stop_at_finding):
            status = report(figures, arguments)
            shutil.rmtree(corpus, ignore_errors=True)
            os._exit(status)  # libFuzzer would print a report of its own about an exception

    apart = functools.lru_cache(_CACHED)(take_apart)  # libFuzzer changes one file many times

    def change(data: bytes, _most: int, seed: int) -> bytes:
        random = Random(seed)
        changed = apart(data).mutated(random)
        return changed if random.random() < 0.7 else take_apart(changed).mutated(random)

    if arguments.corpus:
        shutil.copytree(arguments.corpus, corpus, dirs_exist_ok=True)
    else:
        save_seeds(corpus)
    options = [
        f"-seed={arguments.seed}",
        f"-max_len={_LONGEST_BYTES}",
        "-verbosity=0",
        "-timeout=60",
        "-rss_limit_mb=4096",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], execute, custom_mutator=change)
    atheris.Fuzz()
    raise AssertionError


if __name__ == "__main__":
    main()
